use super::*;
use fuse::record::{TYPE_DIRECTORY, TYPE_REGULAR};
use std::collections::BTreeMap as Map;

const EVER_NS: u64 = u64::MAX;
const ROOT: NodeId = NodeId::ROOT;

fn entry(node: u64, name_valid_ns: u64, attr_valid_ns: u64) -> Entry {
    let attr = Attr { inode: node, mode: TYPE_REGULAR, size: node, ..Attr::default() };
    Entry { node: NodeId(node), generation: 0, name_valid_ns, attr_valid_ns, attr }
}

fn directory(node: u64) -> Entry {
    let attr = Attr { mode: TYPE_DIRECTORY, ..Attr::default() };
    Entry { attr, ..entry(node, EVER_NS, EVER_NS) }
}

/// The server answers at `now_us`, and nobody works with the file then.
fn learn(names: &mut Names, above: NodeId, name: &[u8], entry: &Entry, now_us: u64) {
    let asked = names.asked(now_us);
    let held = names.found(above, name, entry, asked);
    names.release(held.node);
}

/// What is found, and not held on to.
fn find(names: &mut Names, above: NodeId, name: &[u8], now_us: u64) -> Option<Known> {
    let known = names.find(above, name, now_us);
    if let Some(Known::File(held)) = known {
        names.release(held.node);
    }
    known
}

/// With the root held.
fn rooted(limit: usize) -> Names {
    let mut names = Names::new(limit);
    assert_eq!(names.root(0).node, ROOT);
    names
}

fn forgotten(node: u64, lookups: u64) -> Forgotten {
    Forgotten { node: NodeId(node), lookups }
}

#[test]
fn a_name_is_believed_from_when_it_was_asked_for_as_long_as_the_server_said() {
    let mut names = rooted(9);
    learn(&mut names, ROOT, b"a", &entry(2, 1_000_000, EVER_NS), 50);
    let attr = Some(entry(2, 0, 0).attr);
    let known = Known::File(Held { node: NodeId(2), kind: TYPE_REGULAR, attr });
    assert_eq!(find(&mut names, ROOT, b"a", 1_049), Some(known));
    assert_eq!(find(&mut names, ROOT, b"a", 1_050), None);
    assert_eq!(find(&mut names, ROOT, b"b", 50), None);
    assert_eq!(find(&mut names, NodeId(7), b"a", 50), None);
}

#[test]
fn a_name_of_no_validity_is_not_kept_and_replaces_one_that_was() {
    let mut names = rooted(9);
    learn(&mut names, ROOT, b"a", &entry(2, 0, 0), 0);
    assert_eq!((names.count(), names.forgotten()), (0, [forgotten(2, 1)].into()));
    learn(&mut names, ROOT, b"a", &entry(3, EVER_NS, EVER_NS), 0);
    learn(&mut names, ROOT, b"a", &entry(4, 0, 0), 0);
    assert_eq!(find(&mut names, ROOT, b"a", 0), None);
    let both = names.forgotten();
    assert!(both.contains(&forgotten(3, 1)) && both.contains(&forgotten(4, 1)), "{both:?}");
}

#[test]
fn that_there_is_no_such_name_is_believed_too() {
    let mut names = rooted(9);
    let asked = names.asked(0);
    names.absent(ROOT, b"a", 5_000, asked);
    assert_eq!(find(&mut names, ROOT, b"a", 4), Some(Known::Absent));
    assert_eq!(find(&mut names, ROOT, b"a", 5), None);
    names.absent(ROOT, b"a", 0, asked);
    assert_eq!(names.count(), 0);
}

#[test]
fn what_was_asked_before_this_guest_changed_something_is_not_believed() {
    let mut names = rooted(9);
    let asked = names.asked(0);
    names.changed(ROOT);
    names.absent(ROOT, b"made", EVER_NS, asked);
    assert_eq!(find(&mut names, ROOT, b"made", 0), None, "it was made meanwhile");

    let file = entry(2, EVER_NS, EVER_NS);
    let asked = names.asked(0);
    assert_eq!(names.found(ROOT, b"a", &file, asked).attr, Some(file.attr));
    names.changed(NodeId(2));
    assert_eq!(names.attr(NodeId(2), 0), None);
    assert_eq!(names.found(ROOT, b"a", &file, asked).attr, None);
    let reply = AttrReply { valid_ns: EVER_NS, attr: file.attr };
    assert!(!names.describe(NodeId(2), &reply, asked));
    let asked = names.asked(0);
    assert!(names.describe(NodeId(2), &reply, asked));
    assert_eq!(names.attr(NodeId(2), 0), Some(file.attr));
}

#[test]
fn a_change_is_remembered_of_a_file_that_is_not() {
    let mut names = rooted(9);
    let asked = names.asked(0);
    learn(&mut names, ROOT, b"a", &entry(2, EVER_NS, EVER_NS), 0);
    names.changed(NodeId(2));
    learn(&mut names, ROOT, b"a", &entry(3, 0, 0), 0);
    let late = names.found(ROOT, b"a", &entry(2, EVER_NS, EVER_NS), asked);
    assert_eq!(late.attr, None, "it was asked for before the change");
}

#[test]
fn a_file_is_forgotten_with_all_its_entries_once_nobody_knows_it() {
    let mut names = rooted(1);
    let asked = names.asked(0);
    let file = entry(2, EVER_NS, EVER_NS);
    let (one, two) = (names.found(ROOT, b"a", &file, asked), names.found(ROOT, b"a", &file, asked));
    names.release(one.node);
    learn(&mut names, ROOT, b"b", &entry(3, EVER_NS, EVER_NS), 0);
    assert_eq!(find(&mut names, ROOT, b"a", 0), None, "there is room for one");
    assert_eq!(names.forgotten(), [], "it is worked with");
    names.release(two.node);
    assert_eq!(names.forgotten(), [forgotten(2, 2)]);
}

#[test]
fn a_file_of_two_names_has_one_set_of_attributes() {
    let mut names = rooted(9);
    learn(&mut names, ROOT, b"a", &entry(2, EVER_NS, EVER_NS), 0);
    learn(&mut names, ROOT, b"b", &entry(2, EVER_NS, EVER_NS), 0);
    names.changed(NodeId(2));
    for name in [b"a", b"b"] {
        let Some(Known::File(held)) = find(&mut names, ROOT, name, 0) else { panic!("unknown") };
        assert_eq!(held.attr, None);
    }
}

#[test]
fn a_directory_outlives_what_is_known_in_it() {
    let mut names = rooted(2);
    let asked = names.asked(0);
    let above = names.found(ROOT, b"d", &directory(2), asked);
    learn(&mut names, above.node, b"x", &entry(3, EVER_NS, EVER_NS), 0);
    names.release(above.node);
    learn(&mut names, ROOT, b"e", &entry(4, EVER_NS, EVER_NS), 0);
    assert_eq!(find(&mut names, ROOT, b"d", 0), None);
    assert_eq!(names.forgotten(), [], "a name is known in it");
    assert!(find(&mut names, NodeId(2), b"x", 0).is_some());
    names.clear();
    let mut all = names.forgotten();
    all.sort_by_key(|gone| gone.node.0);
    assert_eq!(all, [forgotten(2, 1), forgotten(3, 1), forgotten(4, 1)]);
}

#[test]
fn the_longest_unused_name_goes_first() {
    let mut names = rooted(2);
    learn(&mut names, ROOT, b"a", &entry(2, EVER_NS, EVER_NS), 0);
    learn(&mut names, ROOT, b"b", &entry(3, EVER_NS, EVER_NS), 0);
    assert!(find(&mut names, ROOT, b"a", 0).is_some());
    learn(&mut names, ROOT, b"c", &entry(4, EVER_NS, EVER_NS), 0);
    assert_eq!((names.count(), names.forgotten()), (2, [forgotten(3, 1)].into()));
    assert!(find(&mut names, ROOT, b"a", 0).is_some());
}

#[test]
fn whatever_is_asked_and_given_back_the_server_is_owed_exactly_what_it_answered() {
    // Each step: what, which directory of those that are held, which name.
    bolero::check!().with_type::<Vec<(u8, u8, u8)>>().for_each(|steps| {
        let mut names = rooted(5);
        let mut held = Vec::from([ROOT]);
        let mut owed: Map<NodeId, u64> = Map::new();
        for &(what, which, name) in steps {
            let above = held[usize::from(which) % held.len()];
            let bytes = [name % 4];
            let asked = names.asked(0);
            match what % 6 {
                0 | 1 => {
                    // Few files, so that several names lead to one.
                    let found = directory(2 + u64::from(name % 16));
                    *owed.entry(found.node).or_default() += 1;
                    held.push(names.found(above, &bytes, &found, asked).node);
                }
                2 => names.absent(above, &bytes, EVER_NS, asked),
                3 => {
                    if let Some(Known::File(file)) = names.find(above, &bytes, 0) {
                        assert!(owed.contains_key(&file.node), "the server may have forgotten it");
                        held.push(file.node);
                    }
                }
                4 if above != ROOT => {
                    let at = held.iter().position(|node| *node == above).unwrap();
                    held.swap_remove(at);
                    names.release(above);
                }
                _ if what > 250 => names.clear(),
                _ => {}
            }
            for Forgotten { node, lookups } in names.forgotten() {
                assert_eq!(owed.remove(&node), Some(lookups));
                assert!(!held.contains(&node));
            }
            assert!(names.count() <= 5);
            assert!(names.files.len() <= held.len() + 2 * 5);
        }
        names.clear();
        held.into_iter().for_each(|node| names.release(node));
        for Forgotten { node, lookups } in names.forgotten() {
            assert_eq!(owed.remove(&node), Some(lookups));
        }
        assert_eq!((owed.len(), names.files.len(), names.count()), (0, 0, 0));
    });
}

#[test]
fn a_name_that_was_absent_is_asked_for_again_once_the_directory_changed() {
    let mut names = rooted(9);
    let asked = names.asked(0);
    names.absent(ROOT, b"new", EVER_NS, asked);
    assert_eq!(find(&mut names, ROOT, b"new", 1), Some(Known::Absent));
    learn(&mut names, ROOT, b"there", &entry(2, EVER_NS, EVER_NS), 0);
    names.changed(ROOT);
    assert_eq!(find(&mut names, ROOT, b"new", 1), None);
    assert!(find(&mut names, ROOT, b"there", 1).is_some());
}

#[test]
fn what_was_asked_before_a_file_changed_that_nobody_knows_is_not_believed() {
    let mut names = rooted(9);
    let asked = names.asked(0);
    names.changed(NodeId(2));
    let held = names.found(ROOT, b"a", &entry(2, EVER_NS, EVER_NS), asked);
    assert_eq!(held.attr, None);
}
