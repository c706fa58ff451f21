//! `Key`: names an operation in flight.

/// Replaces the slot in the keys of silent sends.
pub(super) const SILENT: u32 = u32::MAX - 1;

/// Names one operation in flight: a slot of its loop's table and the slot's generation, or the number of a silent send.
///
/// One word, (generation, slot) or (number, `SILENT`), as in the kernel's user data: read and written as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64);

impl Key {
    pub(super) fn new(slot: u32, generation: u32) -> Key {
        Key(u64::from(generation) << 32 | u64::from(slot))
    }

    pub(super) fn of_silent(number: u32) -> Key {
        Key::new(SILENT, number)
    }

    /// The number of a silent send.
    pub(crate) fn silent(self) -> Option<u32> {
        (self.slot() == SILENT as usize).then(|| self.generation())
    }

    pub(super) fn slot(self) -> usize {
        self.0 as u32 as usize
    }

    pub(super) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) fn to_user_data(self) -> u64 {
        self.0
    }

    pub(crate) fn from_user_data(data: u64) -> Key {
        Key(data)
    }
}
