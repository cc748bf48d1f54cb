//! Control messages (cmsg(3)), read and written as bytes.
//!
//! A message is a header of length, level and type, its data, and padding to eight bytes.

/// Bytes of struct cmsghdr.
const HEADER: usize = 16;

/// What one message needs with `data` bytes: CMSG_SPACE.
const fn space(data: usize) -> usize {
    HEADER + data.next_multiple_of(8)
}

/// Most a message to be sent carries: a traffic class, and a segment size or a source address.
pub(super) const SENT: usize = space(4) + space(20);

/// Most a received message carries: a segment size, a traffic class and a local address; and as
/// much again, as a kernel may have more to say.
pub(super) const RECEIVED: usize = 2 * (space(4) + space(4) + space(20));

/// Most an entry of the error queue carries: the error with an address, and what others carry.
pub(super) const ERROR: usize = RECEIVED + space(16 + 28);

/// Room for control messages, aligned as struct cmsghdr.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Control<const N: usize>(pub(super) [u8; N]);

impl<const N: usize> Control<N> {
    pub(super) const EMPTY: Control<N> = Control([0; N]);

    /// Adds a message after the first `used` bytes and gives how many are used then.
    pub(super) fn push(&mut self, used: usize, level: i32, kind: i32, data: &[u8]) -> usize {
        let place = &mut self.0[used..][..space(data.len())];
        place[..8].copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
        place[8..12].copy_from_slice(&level.to_ne_bytes());
        place[12..16].copy_from_slice(&kind.to_ne_bytes());
        place[HEADER..][..data.len()].copy_from_slice(data);
        used + space(data.len())
    }

    /// The messages in the first `used` bytes, as level, type and data, up to the first that is
    /// cut short.
    pub(super) fn messages(&self, used: usize) -> impl Iterator<Item = (i32, i32, &[u8])> {
        let mut bytes = &self.0[..used.min(N)];
        std::iter::from_fn(move || {
            let header = bytes.first_chunk::<HEADER>()?;
            let length = usize::from_ne_bytes(*header.first_chunk()?);
            let level = i32::from_ne_bytes(*header[8..].first_chunk()?);
            let kind = i32::from_ne_bytes(*header[12..].first_chunk()?);
            let data = bytes.get(HEADER..length)?;
            bytes = bytes.get(space(data.len())..).unwrap_or_default();
            Some((level, kind, data))
        })
    }
}

/// The integer in a control message's data, which some are and others are one byte of.
pub(super) fn integer(data: &[u8]) -> Option<i32> {
    match data.first_chunk() {
        Some(bytes) => Some(i32::from_ne_bytes(*bytes)),
        None => data.first().map(|&byte| byte.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_beyond_the_length_given() {
        let mut control = Control::<SENT>::EMPTY;
        let used = control.push(0, 1, 2, &[3]);
        let end = control.push(used, 4, 5, &6i32.to_ne_bytes());
        let all: Vec<_> = control.messages(end).collect();
        assert_eq!(all, [(1, 2, &[3][..]), (4, 5, &6i32.to_ne_bytes()[..])]);
        assert_eq!(control.messages(used).count(), 1);
        assert_eq!(control.messages(used + HEADER).count(), 1, "a header without its data");
        assert_eq!((integer(all[0].2), integer(all[1].2), integer(&[])), (Some(3), Some(6), None));
    }

    #[test]
    fn whatever_the_bytes_are_the_messages_end() {
        bolero::check!().with_type::<([u8; 32], [u8; 32], u8)>().for_each(|(one, two, used)| {
            let mut control = Control::<SENT>::EMPTY;
            control.0[..32].copy_from_slice(one);
            control.0[32..][..32].copy_from_slice(two);
            assert!(control.messages((*used).into()).count() <= SENT / HEADER);
        });
    }
}
