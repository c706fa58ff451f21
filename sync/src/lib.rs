//! Locks, events and queues of corio (asyncio "Synchronization Primitives" and "Queues"): to come in a later
//! version.
//!
//! Nothing is here yet. The crate will depend on no other of corio, so that its types work under any executor.
#![forbid(unsafe_code)]
