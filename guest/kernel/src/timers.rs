//! Timers: tasks that wait for a time. The machine's loop says what time it is.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::{Poll, Waker};

/// All timers; cheap to clone.
#[derive(Clone, Default)]
pub struct Timers {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    now_us: Cell<u64>,
    next_id: Cell<u64>,
    waiting: RefCell<BTreeMap<(u64, u64), Waker>>,
}

impl Timers {
    /// Makes it `now_us` and wakes what waited for that.
    pub fn advance(&self, now_us: u64) {
        self.shared.now_us.set(now_us);
        let mut waiting = self.shared.waiting.borrow_mut();
        while let Some(first) = waiting.first_entry() {
            if first.key().0 > now_us {
                return;
            }
            first.remove().wake();
        }
    }

    /// The time of the last [`Timers::advance`], microseconds since the start.
    pub fn now_us(&self) -> u64 {
        self.shared.now_us.get()
    }

    /// When the next timer is due.
    pub fn next_us(&self) -> Option<u64> {
        self.shared.waiting.borrow().first_key_value().map(|((due_us, _), _)| *due_us)
    }

    /// Waits until it is `due_us`.
    pub async fn until(&self, due_us: u64) {
        let mut timer = Timer { timers: self, set: None };
        poll_fn(|cx| {
            if self.now_us() >= due_us {
                return Poll::Ready(());
            }
            // A task is polled for many reasons: most find their timer set.
            if timer.set.as_ref().is_none_or(|(_, waker)| !waker.will_wake(cx.waker())) {
                timer.cancel();
                let id = self.shared.next_id.get();
                self.shared.next_id.set(id + 1);
                self.shared.waiting.borrow_mut().insert((due_us, id), cx.waker().clone());
                timer.set = Some(((due_us, id), cx.waker().clone()));
            }
            Poll::Pending
        })
        .await;
    }

    /// Waits for so many microseconds.
    pub async fn after(&self, us: u64) {
        self.until(self.now_us().saturating_add(us)).await;
    }

    /// What `work` gives, or `None` if `us` pass in which it does not move `progress_us`,
    /// which it sets to the time of each step done.
    pub async fn while_moving<T>(
        &self,
        us: u64,
        progress_us: &Cell<u64>,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        let mut stuck = pin!(async {
            while progress_us.get().saturating_add(us) > self.now_us() {
                self.until(progress_us.get().saturating_add(us)).await;
            }
        });
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            stuck.as_mut().poll(cx).map(|()| None)
        })
        .await
    }

    /// What `work` gives, or `None` if that takes longer than `us`.
    pub async fn within<T>(&self, us: u64, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut late = pin!(self.after(us));
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            late.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

/// Takes its entry back when it is dropped, whether it was due or not.
struct Timer<'a> {
    timers: &'a Timers,
    set: Option<((u64, u64), Waker)>,
}

impl Timer<'_> {
    fn cancel(&mut self) {
        if let Some((key, _)) = self.set.take() {
            self.timers.shared.waiting.borrow_mut().remove(&key);
        }
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Executor;

    #[test]
    fn a_timer_ends_when_it_is_due_and_not_before() {
        let (mut executor, timers) = (Executor::default(), Timers::default());
        let (own, done) = (timers.clone(), Rc::new(Cell::new(false)));
        let seen = done.clone();
        executor.spawner().spawn(async move {
            own.after(100).await;
            seen.set(true);
        });
        executor.run();
        assert_eq!(timers.next_us(), Some(100));
        timers.advance(99);
        executor.run();
        assert!(!done.get());
        timers.advance(100);
        executor.run();
        assert!(done.get());
        assert_eq!(timers.next_us(), None);
    }

    #[test]
    fn a_limit_ends_work_that_never_ends_and_leaves_no_timer_behind_work_that_does() {
        let (mut executor, timers) = (Executor::default(), Timers::default());
        let (own, results) = (timers.clone(), Rc::new(RefCell::new(alloc::vec::Vec::new())));
        let seen = results.clone();
        executor.spawner().spawn(async move {
            let never = own.within(50, core::future::pending::<u8>()).await;
            let soon = own.within(1000, async { 7_u8 }).await;
            seen.borrow_mut().extend([never, soon]);
        });
        executor.run();
        timers.advance(50);
        executor.run();
        assert_eq!(*results.borrow(), [None, Some(7)]);
        assert_eq!(timers.next_us(), None);
    }
}
