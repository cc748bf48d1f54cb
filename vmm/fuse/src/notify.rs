//! What the server says unasked: that the client's cache is no longer right.
//!
//! A message has the header of a reply, to no request, with the kind in place of the error.

use crate::bytes::Put;
use crate::{Name, NodeId, reply};
use alloc::vec::Vec;

/// `FUSE_NOTIFY_INVAL_INODE`.
const INVAL_INODE: u32 = 2;
/// `FUSE_NOTIFY_INVAL_ENTRY`.
const INVAL_ENTRY: u32 = 3;
/// `FUSE_NOTIFY_STORE`.
const STORE: u32 = 4;
/// `FUSE_EXPIRE_ONLY`.
const EXPIRE_ONLY: u32 = 1 << 0;

/// Makes `out` a whole message: the attributes and the bytes of `node` are to be asked for again.
///
/// The bytes from `offset` on, `length` of them: 0 for all that follow. None, the attributes
/// only, if `offset` is negative. (`struct fuse_notify_inval_inode_out`.)
pub fn inval_inode(out: &mut Vec<u8>, node: NodeId, offset: i64, length: i64) {
    start(out, INVAL_INODE);
    out.put_u64(node.0);
    out.put_u64(offset as u64);
    out.put_u64(length as u64);
    reply::finish(out);
}

/// Makes `out` a whole message: `name` in `parent` is to be looked up again.
///
/// With `expire_only`, which needs [`crate::session::capability::HAS_EXPIRE_ONLY`], the client
/// keeps what it knows until a lookup says otherwise. (`struct fuse_notify_inval_entry_out`.)
pub fn inval_entry(out: &mut Vec<u8>, parent: NodeId, name: Name<'_>, expire_only: bool) {
    start(out, INVAL_ENTRY);
    out.put_u64(parent.0);
    out.put_u32(name.as_bytes().len() as u32);
    out.put_u32(if expire_only { EXPIRE_ONLY } else { 0 });
    out.put_c_string(name.as_bytes());
    reply::finish(out);
}

/// Makes `out` a whole message: `data` is what `node` holds from its beginning on.
///
/// The client keeps it as if it had read it. (`struct fuse_notify_store_out`.)
pub fn store(out: &mut Vec<u8>, node: NodeId, data: &[u8]) {
    start(out, STORE);
    out.put_u64(node.0);
    out.put_u64(0);
    out.put_u32(data.len() as u32);
    out.put_u32(0);
    out.extend_from_slice(data);
    reply::finish(out);
}

fn start(out: &mut Vec<u8>, kind: u32) {
    reply::start(out, 0);
    out[4..8].copy_from_slice(&kind.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_invalidated_as_fuse_h_lays_it_out() {
        let mut out = Vec::from([7; 3]);
        inval_inode(&mut out, NodeId(5), -1, 0);
        let mut expected = Vec::from([40, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([5, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([0xff; 8]);
        expected.extend([0; 8]);
        assert_eq!(out, expected);
    }

    #[test]
    fn bytes_are_stored_as_fuse_h_lays_it_out() {
        let mut out = Vec::from([7; 3]);
        store(&mut out, NodeId(5), b"abc");
        let mut expected = Vec::from([43, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([5, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([0; 8]);
        expected.extend([3, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend(*b"abc");
        assert_eq!(out, expected);
    }

    #[test]
    fn an_entry_is_invalidated_as_fuse_h_lays_it_out() {
        let name = Name::new(b"ab").unwrap();
        for expire_only in [false, true] {
            let mut out = Vec::from([7; 3]);
            inval_entry(&mut out, NodeId(5), name, expire_only);
            let mut expected = Vec::from([35, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            expected.extend([5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, expire_only.into(), 0, 0, 0]);
            expected.extend(*b"ab\0");
            assert_eq!(out, expected);
        }
    }
}
