//! One stream between a host port and a guest port: its buffers, both ways'
//! credit, and what it has to say next (virtio 1.2 5.10.6.3).

use std::collections::VecDeque;

use abi::vsock::{Header, Operation, RECEIVES_NO_MORE, SENDS_NO_MORE};

/// Bytes from the guest kept until the host reads them: the credit it is given.
pub const RECEIVE_BUFFER: u32 = 64 * 1024;

/// Bytes to the guest kept until it has credit.
pub const SEND_BUFFER: usize = 64 * 1024;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The guest has not answered.
    Connecting,
    /// Bytes flow, at least one way.
    Open,
    /// Both ways are over. What the guest sent before can still be read.
    Closed,
    /// Nobody listens on the guest's port.
    Refused,
}

/// What a connection sends next; `length` bytes of data with [`Operation::Data`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) operation: Operation,
    pub(super) flags: u32,
    pub(super) length: usize,
}

/// The guest broke the protocol: the connection is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonsense;

/// One stream, the host's end.
#[derive(Debug)]
pub struct Connection {
    guest_port: u32,
    stage: Stage,
    request_due: bool,
    reset_due: bool,
    /// The host forgot the connection; it is here only to send its reset.
    pub(super) abandoned: bool,

    /// Never above [`SEND_BUFFER`].
    outgoing: VecDeque<u8>,
    /// Nothing is added to `outgoing` any more.
    finishing: bool,
    finish_sent: bool,
    /// The guest receives no more.
    deaf: bool,
    /// Bytes sent ever (modulo 2^32), and of these how many the guest has taken.
    sent: u32,
    guest_taken: u32,
    guest_buffer: u32,
    /// The guest was asked for credit and has not answered.
    credit_asked: bool,

    /// Never above [`RECEIVE_BUFFER`].
    incoming: VecDeque<u8>,
    /// The guest sends no more.
    ended: bool,
    /// Bytes the host read ever (modulo 2^32), and what the guest knows of it.
    taken: u32,
    told: u32,
    credit_due: bool,
}

impl Connection {
    pub(super) fn new(guest_port: u32) -> Connection {
        Connection {
            guest_port,
            stage: Stage::Connecting,
            request_due: true,
            reset_due: false,
            abandoned: false,
            outgoing: VecDeque::new(),
            finishing: false,
            finish_sent: false,
            deaf: false,
            sent: 0,
            guest_taken: 0,
            guest_buffer: 0,
            credit_asked: false,
            incoming: VecDeque::new(),
            ended: false,
            taken: 0,
            told: 0,
            credit_due: false,
        }
    }

    /// The guest's port.
    pub fn guest_port(&self) -> u32 {
        self.guest_port
    }

    /// How far the connection has come.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Bytes from the guest waiting for [`Connection::read`].
    pub fn readable(&self) -> usize {
        self.incoming.len()
    }

    /// Whether the guest will send nothing beyond what is readable now.
    pub fn ended(&self) -> bool {
        self.ended || matches!(self.stage, Stage::Closed | Stage::Refused)
    }

    /// Takes bytes the guest sent, and says how many; the guest may send as
    /// many more after the next `serve`.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        let length = buffer.len().min(self.incoming.len());
        for (byte, value) in buffer.iter_mut().zip(self.incoming.drain(..length)) {
            *byte = value;
        }
        self.taken = self.taken.wrapping_add(length as u32);
        // Told often enough that a guest with something to send never waits for long.
        if self.taken.wrapping_sub(self.told) >= RECEIVE_BUFFER / 4 {
            self.credit_due = true;
        }
        length
    }

    /// How many bytes [`Connection::send`] takes now. Zero for good once the
    /// host has finished, or the guest receives no more.
    pub fn room(&self) -> usize {
        let over = self.finishing || self.deaf;
        match self.stage {
            Stage::Connecting | Stage::Open if !over => SEND_BUFFER - self.outgoing.len(),
            _ => 0,
        }
    }

    /// Whether bytes are waiting to be sent; false once the guest can have seen all.
    pub fn sending(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Queues bytes for the guest and says how many there was room for; `serve` sends them.
    pub fn send(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.outgoing.extend(&bytes[..taken]);
        taken
    }

    /// The host sends nothing more: the guest reads the end after what is queued.
    pub fn finish(&mut self) {
        self.finishing = true;
    }

    /// Ends both ways at once. True if the guest is still to be told.
    pub(super) fn abandon(&mut self) -> bool {
        let known = !self.request_due;
        if matches!(self.stage, Stage::Connecting | Stage::Open) && known {
            self.close(Stage::Closed, true);
        }
        self.abandoned = true;
        self.reset_due
    }

    pub(super) fn break_off(&mut self) {
        self.close(Stage::Closed, true);
    }

    fn close(&mut self, stage: Stage, reset: bool) {
        self.stage = stage;
        self.outgoing.clear();
        self.request_due = false;
        self.reset_due = reset;
    }

    /// A packet of the guest for this connection; `None` for a payload shorter
    /// than its header says.
    pub(super) fn accept(
        &mut self,
        header: &Header,
        payload: Option<&[u8]>,
    ) -> Result<(), Nonsense> {
        match (header.operation, self.stage) {
            // What was under way when the connection ended.
            (_, Stage::Closed | Stage::Refused) => return Ok(()),
            // A reset may come from where nothing is known of any credit.
            (Operation::Reset, Stage::Connecting) => self.close(Stage::Refused, false),
            (Operation::Reset, Stage::Open) => self.close(Stage::Closed, false),
            (operation, stage) => {
                self.credit(header.buffer, header.taken)?;
                match (operation, stage) {
                    (Operation::Response, Stage::Connecting) if !self.request_due => {
                        self.stage = Stage::Open;
                    }
                    (Operation::Data, Stage::Open) => self.keep(payload.ok_or(Nonsense)?)?,
                    (Operation::Shutdown, Stage::Open) => self.shut(header.flags),
                    (Operation::CreditUpdate, Stage::Open) => {}
                    (Operation::CreditRequest, Stage::Open) => self.credit_due = true,
                    _ => return Err(Nonsense),
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, payload: &[u8]) -> Result<(), Nonsense> {
        if self.ended || payload.len() > RECEIVE_BUFFER as usize - self.incoming.len() {
            return Err(Nonsense);
        }
        self.incoming.extend(payload);
        Ok(())
    }

    fn shut(&mut self, flags: u32) {
        self.ended |= flags & SENDS_NO_MORE != 0;
        if flags & RECEIVES_NO_MORE != 0 {
            self.deaf = true;
            self.outgoing.clear();
        }
        // virtio 1.2 5.10.6.5: a shutdown of both ways is answered by a reset.
        if self.ended && (self.deaf || self.finish_sent) {
            self.close(Stage::Closed, true);
        }
    }

    /// The guest's buffer as each of its packets states it.
    fn credit(&mut self, buffer: u32, taken: u32) -> Result<(), Nonsense> {
        let under_way = self.sent.wrapping_sub(self.guest_taken);
        if taken.wrapping_sub(self.guest_taken) > under_way {
            return Err(Nonsense);
        }
        if (buffer, taken) != (self.guest_buffer, self.guest_taken) {
            self.credit_asked = false;
        }
        (self.guest_buffer, self.guest_taken) = (buffer, taken);
        Ok(())
    }

    /// Bytes the guest has room for. Its buffer may have shrunk below what is under way.
    fn guest_room(&self) -> usize {
        self.guest_buffer.saturating_sub(self.sent.wrapping_sub(self.guest_taken)) as usize
    }

    /// What is to be sent next, in a packet with at most `most` bytes of data.
    pub(super) fn due(&self, most: usize) -> Option<Due> {
        let bare = |operation| Some(Due { operation, flags: 0, length: 0 });
        if self.reset_due {
            return bare(Operation::Reset);
        }
        if self.request_due {
            return bare(Operation::Request);
        }
        if self.stage != Stage::Open {
            return None;
        }
        if self.credit_due {
            return bare(Operation::CreditUpdate);
        }
        let length = self.outgoing.len().min(self.guest_room()).min(most);
        if length > 0 {
            return Some(Due { operation: Operation::Data, flags: 0, length });
        }
        if self.outgoing.is_empty() && self.finishing && !self.finish_sent {
            let both = if self.ended { RECEIVES_NO_MORE } else { 0 };
            let flags = SENDS_NO_MORE | both;
            return Some(Due { operation: Operation::Shutdown, flags, length: 0 });
        }
        let starved = !self.outgoing.is_empty() && self.guest_room() == 0;
        if starved && !self.credit_asked {
            return bare(Operation::CreditRequest);
        }
        None
    }

    /// `due` is being sent: its data is appended to `out`. Returns the buffer
    /// and the bytes taken that its header states.
    pub(super) fn send_due(&mut self, due: Due, out: &mut Vec<u8>) -> (u32, u32) {
        match due.operation {
            Operation::Reset => self.reset_due = false,
            Operation::Request => self.request_due = false,
            Operation::Shutdown => self.finish_sent = true,
            Operation::CreditRequest => self.credit_asked = true,
            Operation::Data => {
                out.extend(self.outgoing.drain(..due.length));
                self.sent = self.sent.wrapping_add(due.length as u32);
            }
            _ => {}
        }
        self.credit_due = false;
        self.told = self.taken;
        (RECEIVE_BUFFER, self.taken)
    }
}
