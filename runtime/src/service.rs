//! State that other crates keep on a loop, such as the streams of `corio-net`.

use std::{
    any::Any,
    cell::RefCell,
    fmt,
    rc::Rc,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::current;

/// A part of the loop that lives outside this crate.
pub trait Service: Any {
    /// Called at the end of each turn, before everything queued is submitted.
    fn before_submit(&self) {}

    /// Whether the closing loop should wait (up to 5 s) for work in flight, such as unsent data.
    fn busy(&self) -> bool {
        false
    }

    /// The loop is closing: all tasks are gone, and whatever is still held must be let go.
    fn close(&self) {}
}

/// A static that has one value on each loop, made when first used there.
///
/// ```
/// use corio_runtime::service::{LoopLocal, Service};
/// use std::cell::Cell;
/// struct Count(Cell<u32>);
/// impl Service for Count {}
/// static COUNT: LoopLocal<Count> = LoopLocal::new(|| Count(Cell::new(0)));
///
/// for _ in 0..2 {
///     corio_runtime::run(async {
///         assert_eq!(COUNT.with(|c| c.0.replace(1)), 0);
///         assert_eq!(COUNT.with(|c| c.0.get()), 1);
///     });
/// }
/// ```
pub struct LoopLocal<T: Service> {
    index: OnceLock<usize>,
    make: fn() -> T,
}

static NEXT_INDEX: AtomicUsize = AtomicUsize::new(0);

impl<T: Service> LoopLocal<T> {
    /// A value that `make` makes.
    pub const fn new(make: fn() -> T) -> LoopLocal<T> {
        LoopLocal { index: OnceLock::new(), make }
    }

    /// Runs `f` with this loop's value.
    ///
    /// # Panics
    /// Outside a running loop.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Some(value) => value,
            None => panic!("no running event loop: call this from inside corio::run"),
        }
    }

    /// As `with`; `None` outside a running loop.
    pub fn try_with<R>(&self, f: impl FnOnce(&T) -> R) -> Option<R> {
        let index = *self.index.get_or_init(|| NEXT_INDEX.fetch_add(1, Ordering::Relaxed));
        let service = current::try_with(|lp| {
            lp.services.get(index).unwrap_or_else(|| lp.services.insert(index, Rc::new((self.make)())))
        })?;
        let any: &dyn Any = &*service;
        any.downcast_ref().map(f)
    }
}

impl<T: Service> fmt::Debug for LoopLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopLocal").field("index", &self.index).finish_non_exhaustive()
    }
}

/// The services of one loop.
#[derive(Default)]
pub(crate) struct Services(RefCell<Vec<Option<Rc<dyn Service>>>>);

impl Services {
    fn get(&self, index: usize) -> Option<Rc<dyn Service>> {
        self.0.borrow().get(index).cloned().flatten()
    }

    fn insert(&self, index: usize, service: Rc<dyn Service>) -> Rc<dyn Service> {
        let mut services = self.0.borrow_mut();
        if services.len() <= index {
            services.resize(index + 1, None);
        }
        services[index] = Some(Rc::clone(&service));
        service
    }

    /// Calls `f` with each; no borrow is held meanwhile.
    pub(crate) fn each(&self, mut f: impl FnMut(&dyn Service)) {
        let count = self.0.borrow().len();
        for index in 0..count {
            if let Some(service) = self.get(index) {
                f(&*service);
            }
        }
    }

    pub(crate) fn any_busy(&self) -> bool {
        let mut busy = false;
        self.each(|service| busy |= service.busy());
        busy
    }

    /// All of them, to be dropped by the closing loop.
    pub(crate) fn clear(&self) -> Vec<Option<Rc<dyn Service>>> {
        std::mem::take(&mut *self.0.borrow_mut())
    }
}
