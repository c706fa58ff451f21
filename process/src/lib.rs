//! Subprocesses of corio (asyncio "Subprocesses"): to come in a later version.
//!
//! Nothing is here yet. Until then `std::process` on a thread of its own does the work.
#![forbid(unsafe_code)]
