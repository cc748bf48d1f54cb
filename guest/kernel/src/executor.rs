//! A single-threaded executor: tasks are polled when they were woken.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Waker};

type Job = Pin<Box<dyn Future<Output = ()>>>;

/// Starts tasks; cheap to clone, and tasks may hold one.
#[derive(Clone, Default)]
pub struct Spawner {
    fresh: Rc<RefCell<Vec<Job>>>,
}

impl Spawner {
    /// Starts a task at the executor's next run.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.fresh.borrow_mut().push(Box::pin(task));
    }
}

/// Owns all tasks.
#[derive(Default)]
pub struct Executor {
    spawner: Spawner,
    tasks: Vec<Task>,
    any: Arc<AtomicBool>,
}

struct Task {
    job: Job,
    woken: Arc<Woken>,
    waker: Waker,
}

struct Woken {
    this: AtomicBool,
    /// Shared by all tasks, so that an idle turn looks at one flag.
    any: Arc<AtomicBool>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.this.store(true, Ordering::Relaxed);
        self.any.store(true, Ordering::Relaxed);
    }
}

impl Executor {
    /// What starts tasks here.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Whether [`Executor::run`] has something to do.
    pub fn ready(&self) -> bool {
        self.any.load(Ordering::Relaxed) || !self.spawner.fresh.borrow().is_empty()
    }

    /// Polls each woken and each new task once. What they wake is for the next run.
    pub fn run(&mut self) {
        self.any.store(false, Ordering::Relaxed);
        for job in self.spawner.fresh.take() {
            let woken = Arc::new(Woken { this: AtomicBool::new(true), any: self.any.clone() });
            let waker = Waker::from(woken.clone());
            self.tasks.push(Task { job, woken, waker });
        }
        self.tasks.retain_mut(|task| {
            if !task.woken.this.swap(false, Ordering::Relaxed) {
                return true;
            }
            task.job.as_mut().poll(&mut Context::from_waker(&task.waker)).is_pending()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use core::future::poll_fn;
    use core::task::Poll;

    #[test]
    fn a_task_is_polled_again_only_when_it_was_woken() {
        let mut executor = Executor::default();
        let polls = Rc::new(Cell::new(0));
        let waker: Rc<RefCell<Option<Waker>>> = Rc::default();
        let (count, keep) = (polls.clone(), waker.clone());
        executor.spawner().spawn(poll_fn(move |cx| {
            count.set(count.get() + 1);
            *keep.borrow_mut() = Some(cx.waker().clone());
            if count.get() == 2 { Poll::Ready(()) } else { Poll::Pending }
        }));
        assert!(executor.ready());
        executor.run();
        assert!(!executor.ready());
        executor.run();
        assert_eq!(polls.get(), 1);
        waker.borrow().as_ref().expect("polled once").wake_by_ref();
        assert!(executor.ready());
        executor.run();
        assert_eq!(polls.get(), 2);
        assert!(executor.tasks.is_empty());
    }

    #[test]
    fn a_task_may_start_another() {
        let mut executor = Executor::default();
        let (spawner, done) = (executor.spawner(), Rc::new(Cell::new(false)));
        let seen = done.clone();
        executor.spawner().spawn(async move {
            spawner.spawn(async move { seen.set(true) });
        });
        executor.run();
        assert!(executor.ready());
        executor.run();
        assert!(done.get());
    }
}
