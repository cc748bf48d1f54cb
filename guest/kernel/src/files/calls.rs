//! FUSE requests on their way, and who waits for their replies.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::{Poll, Waker};

use fuse::reply::{self, Refused};
use fuse::request::{Header, InitIn};
use fuse::session::{VERSION, capability};
use fuse::{Errno, NodeId, Operation, Request};

use super::Failed;
use super::cache::Pages;
use super::names::{Forgotten, Names};
use super::unread::Unread;
use crate::executor::Spawner;
use crate::hardware::Requests;

/// Most bytes of one read or write.
pub const MAX_IO: usize = 64 * 1024;

/// Longest request: a write with its headers.
pub const MAX_REQUEST: usize = MAX_IO + 4096;

/// Longest reply: a read with its header.
pub const MAX_REPLY: usize = MAX_IO + 4096;

/// All requests of the machine.
#[derive(Default)]
pub struct Calls {
    state: RefCell<State>,
    /// For what is to be done although the program that began it is gone.
    pub(super) spawner: Spawner,
    /// What was read of files.
    pub(super) pages: RefCell<Pages>,
    /// What is believed of names, and of the files they lead to.
    pub(super) names: RefCell<Names>,
}

#[derive(Default)]
struct State {
    session: Session,
    next_unique: u64,
    /// Encoded, not yet taken by the device.
    outbox: VecDeque<(u64, Vec<u8>)>,
    /// By the device's number.
    in_flight: BTreeMap<u16, u64>,
    /// By `unique`; nobody waits for the others' replies.
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Default)]
enum Session {
    #[default]
    None,
    Starting(Vec<Waker>),
    Ready,
    Failed(Failed),
}

#[derive(Default)]
struct Waiting {
    reply: Option<Vec<u8>>,
    waker: Option<Waker>,
}

impl Calls {
    /// Requests of tasks that `spawner` starts.
    pub fn new(spawner: Spawner) -> Calls {
        Calls { spawner, ..Calls::default() }
    }

    /// Whoever asks for a file waits from now on, until [`Calls::mount`] or [`Calls::without`].
    pub fn expect(&self) {
        let session = &mut self.state.borrow_mut().session;
        if matches!(session, Session::None) {
            *session = Session::Starting(Vec::new());
        }
    }

    /// There is no device: whoever waited hears that there are no files.
    pub fn without(&self) {
        self.settle(Session::None);
    }

    /// Starts the session (FUSE_INIT). To be run once, as a task, if there is a device.
    pub async fn mount(self: Rc<Calls>) {
        self.expect();
        let (major, minor) = VERSION;
        let flags = capability::BIG_WRITES | capability::MAX_PAGES | capability::ATOMIC_TRUNCATE;
        let init = InitIn { major, minor, max_readahead: MAX_IO as u32, flags };
        let outcome = self.call(NodeId(0), &Operation::Init(init), reply::init).await;
        let session = match outcome {
            Ok(init) if init.major == major && init.max_write as usize >= MAX_IO => Session::Ready,
            Ok(_) => Session::Failed(Errno::EPROTO.into()),
            Err(failed) => Session::Failed(failed),
        };
        self.settle(session);
    }

    fn settle(&self, session: Session) {
        let before = core::mem::replace(&mut self.state.borrow_mut().session, session);
        if let Session::Starting(wakers) = before {
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Waits until the session has begun.
    pub(super) async fn mounted(&self) -> Result<(), Failed> {
        poll_fn(|cx| match &mut self.state.borrow_mut().session {
            Session::None => Poll::Ready(Err(Failed::NoFiles)),
            Session::Starting(wakers) => {
                wakers.push(cx.waker().clone());
                Poll::Pending
            }
            Session::Ready => Poll::Ready(Ok(())),
            Session::Failed(failed) => Poll::Ready(Err(*failed)),
        })
        .await
    }

    /// Sends a request and reads its reply.
    pub(super) async fn call<T>(
        self: &Rc<Calls>,
        node: NodeId,
        operation: &Operation<'_>,
        read: impl FnOnce(&[u8], u64) -> Result<T, Refused>,
    ) -> Result<T, Failed> {
        self.ask(node, operation).reply(read).await
    }

    /// Sends a request whose reply is read later, or never if what is returned is dropped.
    pub(super) fn ask(self: &Rc<Calls>, node: NodeId, operation: &Operation<'_>) -> Pending {
        let unique = self.send(node, operation);
        self.state.borrow_mut().waiting.insert(unique, Waiting::default());
        Pending { calls: self.clone(), unique, node, unread: Unread::of(operation) }
    }

    async fn reply(&self, unique: u64) -> Vec<u8> {
        poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            let waiting = state.waiting.get_mut(&unique).expect("kept until its reply is read");
            match waiting.reply.take() {
                Some(reply) => {
                    state.waiting.remove(&unique);
                    Poll::Ready(reply)
                }
                None => {
                    waiting.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Sends a request whose reply nobody waits for.
    pub(super) fn tell(&self, node: NodeId, operation: &Operation<'_>) {
        self.send(node, operation);
    }

    fn send(&self, node: NodeId, operation: &Operation<'_>) -> u64 {
        let mut state = self.state.borrow_mut();
        state.next_unique += 2;
        let unique = state.next_unique;
        let header = Header { unique, node, uid: 0, gid: 0, pid: 1 };
        let mut bytes = Vec::new();
        Request { header, operation: *operation }.encode(&mut bytes);
        state.outbox.push_back((unique, bytes));
        unique
    }

    /// Takes replies from the device; whether there were any.
    pub fn ingress(&self, device: &mut impl Requests) -> bool {
        let state = &mut *self.state.borrow_mut();
        let mut any = false;
        while device.complete(&mut |number, reply| {
            let unique = state.in_flight.remove(&number);
            let waiting = unique.and_then(|unique| state.waiting.get_mut(&unique));
            if let Some(waiting) = waiting {
                waiting.reply = Some(reply.to_vec());
                if let Some(waker) = waiting.waker.take() {
                    waker.wake();
                }
            }
        }) {
            any = true;
        }
        any
    }

    /// Gives requests to the device.
    pub fn egress(&self, device: &mut impl Requests) {
        let forgotten = self.names.borrow_mut().forgotten();
        for Forgotten { node, lookups } in forgotten {
            self.tell(node, &Operation::Forget { lookups });
        }
        let state = &mut *self.state.borrow_mut();
        while let Some((unique, bytes)) = state.outbox.front() {
            let Some(number) = device.submit(bytes) else { return };
            state.in_flight.insert(number, *unique);
            state.outbox.pop_front();
        }
    }
}

/// A request on its way.
pub(super) struct Pending {
    calls: Rc<Calls>,
    unique: u64,
    node: NodeId,
    unread: Unread,
}

impl Pending {
    /// Waits for the reply and reads it.
    pub(super) async fn reply<T>(
        self,
        read: impl FnOnce(&[u8], u64) -> Result<T, Refused>,
    ) -> Result<T, Failed> {
        let reply = self.calls.reply(self.unique).await;
        read(&reply, self.unique).map_err(|refused| refused.errno().into())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Pending { unique, node, unread, .. } = *self;
        let waiting = &mut self.calls.state.borrow_mut().waiting;
        if unread == Unread::Nothing {
            waiting.remove(&unique);
        } else if waiting.contains_key(&unique) {
            let calls = self.calls.clone();
            self.calls.spawner.spawn(async move {
                let reply = calls.reply(unique).await;
                unread.give_back(&calls, node, &reply, unique);
            });
        }
    }
}
