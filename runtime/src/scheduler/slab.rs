//! The base of the loop's tables: slots ("places") that keys name by a number and a generation.
//!
//! ```text
//!   places   [ . . . . . . . . ]   in use or free; the free ones are linked, and the last one freed is reused first
//!   strays   { 71: ., 9_003: . }   places in use when the table shrank below their number
//! ```
//! There are hardly ever strays, so a lookup is one comparison, as in a `Vec`. A table that has become far too large
//! shrinks to as many places as are in use: free places beyond that are dropped, and those in use become strays, until
//! the table grows over their numbers again. So one long-lived key does not keep the memory of a peak.
//!
//! A number never gets the same generation twice: dropping places raises the generation that new places begin with.
//! (Generations wrap after 2³² uses of one place.)
//!
//! Shrinking costs time in proportion to the table, so it should be rare: [`Slab::give_back`] notices when it is worth
//! while, and requests it by [`tidy_later`](crate::service::tidy_later).

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasherDefault, Hasher},
    mem,
    ops::{Index, IndexMut},
};

/// The number of no place.
pub const NONE: u32 = u32::MAX;

/// Tables and lists of up to this many bytes never shrink.
pub const KEEP_BYTES: usize = 64 << 10;

/// A place of a [`Slab`], in use or free.
pub trait Place {
    /// The generation of the key that names this place, or of the next such key if the place is free.
    fn generation(&self) -> u32;

    /// Whether the place is free.
    fn is_free(&self) -> bool;

    /// The next place in the free list. Called only on a free place.
    fn next_free(&self) -> u32;

    /// Sets the next place in the free list.
    fn set_next_free(&mut self, next: u32);
}

/// See the module's documentation. [`Held`] is a place for any value; this is a custom one:
///
/// ```
/// use corio_runtime::slab::{NONE, Place, Slab};
///
/// struct Name { generation: u32, next_free: u32, name: Option<String> }
/// impl Place for Name {
///     fn generation(&self) -> u32 { self.generation }
///     fn is_free(&self) -> bool { self.name.is_none() }
///     fn next_free(&self) -> u32 { self.next_free }
///     fn set_next_free(&mut self, next: u32) { self.next_free = next }
/// }
///
/// let mut names = Slab::new(|| ());
/// let mut insert = |name: &str| {
///     let (index, place) = names.take(|_, generation| Name { generation, next_free: NONE, name: None });
///     place.name = Some(name.to_owned());
///     index as usize
/// };
/// let (ada, bob) = (insert("Ada"), insert("Bob"));
/// let name = names.give_back(ada, |place, next| {
///     (place.generation, place.next_free) = (place.generation + 1, next);
///     place.name.take()
/// });
/// assert_eq!((name.as_deref(), names.used()), (Some("Ada"), 1));
/// assert!(names.get(bob).is_some_and(|place| place.generation == 0));
/// let (index, place) = names.take(|_, _| unreachable!("there is a free place"));
/// assert_eq!((index as usize, place.generation), (ada, 1));
/// ```
pub struct Slab<P> {
    places: Vec<P>,
    /// The first place of the free list.
    free: u32,
    /// Places in use, minus `shrink_below`. Below 0 the table is far too large.
    spare: i64,
    /// The table is far too large with fewer places in use than this.
    shrink_below: i64,
    /// The generation of new places.
    generation: u32,
    strays: Strays<P>,
    far_too_large: fn(),
}

type Strays<P> = HashMap<u32, Box<P>, BuildHasherDefault<NumberHasher>>;

impl<P> Slab<P> {
    /// An empty table. `far_too_large` is called when it is that ([`tidy_later`](crate::service::tidy_later)).
    pub const fn new(far_too_large: fn()) -> Slab<P> {
        let strays = HashMap::with_hasher(BuildHasherDefault::new());
        Slab {
            places: Vec::new(),
            free: NONE,
            spare: 0,
            shrink_below: 0,
            generation: 0,
            strays,
            far_too_large,
        }
    }

    /// The place of this number, in use or free.
    #[inline(always)]
    pub fn get(&self, index: usize) -> Option<&P> {
        if index < self.places.len() { Some(&self.places[index]) } else { self.stray(index) }
    }

    /// As [`get`](Slab::get).
    #[inline(always)]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut P> {
        if index < self.places.len() { Some(&mut self.places[index]) } else { self.stray_mut(index) }
    }

    #[cold]
    #[inline(never)]
    fn stray(&self, index: usize) -> Option<&P> {
        self.strays.get(&u32::try_from(index).ok()?).map(|place| &**place)
    }

    #[cold]
    #[inline(never)]
    fn stray_mut(&mut self, index: usize) -> Option<&mut P> {
        self.strays.get_mut(&u32::try_from(index).ok()?).map(|place| &mut **place)
    }

    /// Number of places in use.
    pub fn used(&self) -> usize {
        (self.spare + self.shrink_below) as usize
    }

    /// One more than the largest number of a place, without strays.
    pub fn end(&self) -> usize {
        self.places.len()
    }

    /// Memory of the table, in bytes.
    pub fn bytes(&self) -> usize {
        let stray = size_of::<P>() + size_of::<(u32, Box<P>)>() + 1;
        self.places.capacity() * size_of::<P>() + self.strays.len() * stray
    }

    /// All places with their numbers; strays come last.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &P)> {
        let strays = self.strays.iter().map(|(index, place)| (*index, &**place));
        (0..).zip(&self.places).chain(strays)
    }

    /// As [`iter`](Slab::iter).
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut P)> {
        let strays = self.strays.iter_mut().map(|(index, place)| (*index, &mut **place));
        (0..).zip(&mut self.places).chain(strays)
    }

    /// The strays: places beyond [`end`](Slab::end). All are in use.
    pub fn strays(&self) -> impl Iterator<Item = &P> {
        self.strays.values().map(|place| &**place)
    }

    /// Takes the table, and leaves an empty one.
    pub fn take_all(&mut self) -> Slab<P> {
        mem::replace(self, Slab::new(self.far_too_large))
    }

    /// All places, by value.
    pub fn into_places(self) -> impl Iterator<Item = P> {
        self.places.into_iter().chain(self.strays.into_values().map(|place| *place))
    }
}

impl<P: Place> Slab<P> {
    /// Takes a free place. If there is none, `make(number, generation)` makes one, with `NONE` as its next one. The
    /// place counts as in use from now on.
    #[inline(always)]
    pub fn take(&mut self, make: impl FnOnce(u32, u32) -> P) -> (u32, &mut P) {
        self.spare += 1;
        let mut index = self.free;
        if index == NONE {
            index = self.grow(make);
        }
        let place = &mut self.places[index as usize];
        self.free = place.next_free();
        (index, place)
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, make: impl FnOnce(u32, u32) -> P) -> u32 {
        let capacity = self.places.capacity();
        loop {
            let index = u32::try_from(self.places.len()).unwrap_or(NONE);
            assert!(index < NONE - 1, "2^32 places of one table are in use");
            let stray = if self.strays.is_empty() { None } else { self.strays.remove(&index) };
            match stray {
                Some(stray) => self.places.push(*stray),
                None => {
                    self.places.push(make(index, self.generation));
                    if self.places.capacity() > capacity {
                        self.watch();
                    }
                    return index;
                }
            }
        }
    }

    /// Frees a place by `empty(place, next)`, which must raise its generation and set `next` as its next free one. If
    /// `empty` returns `None`, the place stays in use, and must be unchanged. Also `None` if there is no such place.
    #[inline(always)]
    pub fn give_back<R>(&mut self, index: usize, empty: impl FnOnce(&mut P, u32) -> Option<R>) -> Option<R> {
        if index >= self.places.len() {
            return self.give_back_stray(u32::try_from(index).ok()?, empty);
        }
        let left = empty(&mut self.places[index], self.free)?;
        self.free = index as u32;
        self.spare -= 1;
        if self.spare < 0 {
            self.is_far_too_large();
        }
        Some(left)
    }

    #[cold]
    #[inline(never)]
    fn give_back_stray<R>(&mut self, index: u32, empty: impl FnOnce(&mut P, u32) -> Option<R>) -> Option<R> {
        let place = self.strays.get_mut(&index)?;
        let left = empty(place, NONE)?;
        self.generation = self.generation.max(place.generation());
        self.spare -= 1;
        drop(self.strays.remove(&index));
        if self.spare < 0 {
            self.is_far_too_large();
        }
        Some(left)
    }

    /// Reports it once, until the next `shrink`.
    #[cold]
    #[inline(never)]
    fn is_far_too_large(&mut self) {
        self.set_shrink_below(0);
        (self.far_too_large)();
    }

    fn set_shrink_below(&mut self, used: i64) {
        self.spare += self.shrink_below - used;
        self.shrink_below = used;
    }

    /// Sets when the table is far too large: at less than a quarter in use, and above `KEEP_BYTES`.
    fn watch(&mut self) {
        let large = self.bytes() > KEEP_BYTES;
        self.set_shrink_below(if large { self.places.capacity() as i64 / 4 } else { 0 });
    }

    /// Shrinks the table to the places in use, if it is far too large. Returns whether it was.
    pub fn shrink(&mut self) -> bool {
        self.watch();
        let shrinks = self.spare < 0;
        if shrinks {
            self.shrink_to(self.used().max(KEEP_BYTES / 4 / size_of::<P>().max(1)));
            self.watch();
        }
        shrinks
    }

    #[cold]
    fn shrink_to(&mut self, end: usize) {
        for (index, place) in (end as u32..).zip(self.places.drain(end.min(self.places.len())..)) {
            if place.is_free() {
                self.generation = self.generation.max(place.generation());
            } else {
                self.strays.insert(index, Box::new(place));
            }
        }
        self.places.shrink_to_fit();
        self.strays.shrink_to_fit();
        self.free = NONE;
        // The lowest ones are reused first.
        for (index, place) in self.places.iter_mut().enumerate().rev() {
            if place.is_free() {
                place.set_next_free(mem::replace(&mut self.free, index as u32));
            }
        }
    }
}

/// A place for any value.
///
/// ```
/// use corio_runtime::slab::{Held, Slab};
/// let mut names: Slab<Held<&str>> = Slab::new(|| ());
/// let (ada, bob) = (names.insert("Ada"), names.insert("Bob"));
/// assert_eq!(names.remove(ada), Some("Ada"));
/// let eve = names.insert("Eve");
/// assert_eq!(names.find(eve), Some(&mut "Eve"));
/// assert!(names.find(ada).is_none() && names.remove(ada).is_none());
/// assert!(names.values().map(|(key, _)| key).eq([eve, bob]));
/// ```
#[derive(Debug)]
pub struct Held<T> {
    generation: u32,
    next_free: u32,
    value: Option<T>,
}

/// Names a [`Held`] value of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldKey {
    pub(crate) slot: u32,
    generation: u32,
}

impl<T> Place for Held<T> {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn is_free(&self) -> bool {
        self.value.is_none()
    }

    fn next_free(&self) -> u32 {
        self.next_free
    }

    fn set_next_free(&mut self, next: u32) {
        self.next_free = next;
    }
}

impl<T> Held<T> {
    /// Replaces the value.
    pub(crate) fn set(&mut self, value: T) {
        self.value = Some(value);
    }
}

impl<T> Slab<Held<T>> {
    /// Inserts `value`.
    #[inline]
    pub fn insert(&mut self, value: T) -> HeldKey {
        let (slot, place) = self.take(|_, generation| Held { generation, next_free: NONE, value: None });
        // The old value is `None`; `forget` spares the compiler's drop check.
        mem::forget(place.value.replace(value));
        HeldKey { slot, generation: place.generation }
    }

    /// The value of `key`, unless it was removed.
    pub fn find(&mut self, key: HeldKey) -> Option<&mut T> {
        self.get_mut(key.slot as usize).filter(|place| place.generation == key.generation)?.value.as_mut()
    }

    /// Removes the value of `key`.
    pub fn remove(&mut self, key: HeldKey) -> Option<T> {
        self.find(key)?;
        self.remove_at(key.slot)
    }

    /// Removes the value in this place, whatever its generation.
    #[inline]
    pub(crate) fn remove_at(&mut self, slot: u32) -> Option<T> {
        self.give_back(slot as usize, |place, next| {
            let value = place.value.take()?;
            (place.generation, place.next_free) = (place.generation.wrapping_add(1), next);
            Some(value)
        })
    }

    /// All values, with their keys.
    pub fn values(&self) -> impl Iterator<Item = (HeldKey, &T)> {
        let key = |slot, place: &Held<T>| HeldKey { slot, generation: place.generation };
        self.iter().filter_map(move |(slot, place)| Some((key(slot, place), place.value.as_ref()?)))
    }

    /// As [`values`](Slab::values).
    pub fn values_mut(&mut self) -> impl Iterator<Item = (HeldKey, &mut T)> {
        self.iter_mut().filter_map(|(slot, place)| {
            let key = HeldKey { slot, generation: place.generation };
            Some((key, place.value.as_mut()?))
        })
    }

    /// All values, by value.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.into_places().filter_map(|place| place.value)
    }
}

impl<P> Index<usize> for Slab<P> {
    type Output = P;

    #[inline(always)]
    fn index(&self, index: usize) -> &P {
        self.get(index).expect("a place of the table")
    }
}

impl<P> IndexMut<usize> for Slab<P> {
    #[inline(always)]
    fn index_mut(&mut self, index: usize) -> &mut P {
        self.get_mut(index).expect("a place of the table")
    }
}

impl<P> fmt::Debug for Slab<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let strays = self.strays.len();
        f.debug_struct("Slab").field("used", &self.used()).field("strays", &strays).finish_non_exhaustive()
    }
}

/// Spreads place numbers. No peer chooses these, so it need not resist attacks.
#[derive(Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32((*byte).into()));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Shrinks a list whose capacity is far more than it uses.
///
/// ```
/// use corio_runtime::slab::{KEEP_BYTES, shrink_list};
/// let mut list: Vec<u64> = (0..100_000).collect();
/// list.truncate(3);
/// shrink_list(&mut list);
/// assert!(list.len() == 3 && list.capacity() * size_of::<u64>() <= KEEP_BYTES);
/// ```
pub fn shrink_list<T>(list: &mut Vec<T>) {
    if let Some(to) = smaller(list.capacity(), list.len(), size_of::<T>()) {
        list.shrink_to(to);
    }
}

/// The capacity for `len` entries of this size, if `capacity` is far more.
pub fn smaller(capacity: usize, len: usize, size: usize) -> Option<usize> {
    let size = size.max(1);
    let too_large = capacity.saturating_mul(size) > KEEP_BYTES && len < capacity / 4;
    too_large.then(|| len.max(KEEP_BYTES / 4 / size))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// A number, and some padding.
    type Number = (u64, [u64; 8]);

    fn new() -> Slab<Held<Number>> {
        Slab::new(|| ())
    }

    fn insert(slab: &mut Slab<Held<Number>>, value: u64) -> HeldKey {
        slab.insert((value, [0; 8]))
    }

    fn find(slab: &mut Slab<Held<Number>>, key: HeldKey) -> Option<u64> {
        slab.find(key).map(|(value, _)| *value)
    }

    const SIZE: usize = size_of::<Held<Number>>();
    const MANY: u64 = 100_000;

    #[test]
    fn a_table_that_is_far_too_large_shrinks_to_what_is_in_use() {
        let mut slab = new();
        let keys: Vec<HeldKey> = (0..MANY).map(|n| insert(&mut slab, n)).collect();
        assert!(!slab.shrink());
        let kept = keys.len() - 10;
        keys[..kept].iter().for_each(|key| assert!(slab.remove(*key).is_some()));
        assert_eq!(slab.used(), 10);
        assert!(slab.shrink() && slab.bytes() <= KEEP_BYTES, "{} bytes", slab.bytes());
        // The last ones are strays now, and still found.
        for (n, key) in keys.iter().enumerate() {
            assert_eq!(find(&mut slab, *key), (n >= kept).then_some(n as u64));
        }
        assert_eq!(slab.values().count(), 10);
        assert_eq!(insert(&mut slab, 0).slot, 0, "the lowest free place is taken first");
        assert!(!slab.shrink());
    }

    #[test]
    fn a_key_that_lives_long_does_not_keep_the_memory_of_a_peak() {
        let mut slab = new();
        let keys: Vec<HeldKey> = (0..MANY).map(|n| insert(&mut slab, n)).collect();
        // One in sixteen stays, spread over the table.
        for key in keys.iter().filter(|key| key.slot % 16 != 15) {
            assert!(slab.remove(*key).is_some());
        }
        assert!(slab.shrink());
        assert!(slab.bytes() <= 2 * slab.used() * SIZE + KEEP_BYTES, "{} bytes", slab.bytes());
        for (n, key) in keys.iter().enumerate() {
            assert_eq!(find(&mut slab, *key), (n % 16 == 15).then_some(n as u64));
        }
        // The table grows over the strays again.
        let more: Vec<HeldKey> = (0..MANY).map(|n| insert(&mut slab, MANY + n)).collect();
        assert!(slab.strays.is_empty());
        assert!(more.iter().zip(MANY..).all(|(key, n)| find(&mut slab, *key) == Some(n)));
        assert_eq!(find(&mut slab, keys[15]), Some(15));
    }

    #[test]
    fn no_key_is_ever_given_twice_however_often_the_table_shrinks_and_grows() {
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let (mut slab, mut seen, mut live, mut stale) = (new(), HashSet::new(), Vec::new(), Vec::new());
        let mut shrunk = 0;
        for round in 0..40u64 {
            for n in 0..500 + next() % 2000 {
                let key = insert(&mut slab, n);
                assert!(seen.insert((key.slot, key.generation)), "{key:?} again in round {round}");
                live.push((key, n));
            }
            // Few stay, some old, some new.
            while live.len() as u64 > next() % 300 {
                let (key, n) = live.swap_remove(next() as usize % live.len());
                assert_eq!(find(&mut slab, key), Some(n));
                assert!(slab.remove(key).is_some());
                stale.push(key);
            }
            shrunk += u32::from(slab.shrink());
            assert_eq!(slab.used(), live.len());
            assert!(live.iter().all(|(key, n)| find(&mut slab, *key) == Some(*n)));
            assert!(stale.iter().all(|key| find(&mut slab, *key).is_none()));
        }
        assert!(shrunk > 10, "it shrank {shrunk} times");
    }
}
