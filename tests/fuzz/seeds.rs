//! Seeds: inputs that are right or nearly so, and others made of them.

/// A name and an input.
pub(crate) type Seed = (&'static str, Vec<u8>);

/// Where a fuzzer wants the seeds as files, if one does.
const DIRECTORY: &str = "PORTSPACE_FUZZ_CORPUS";

/// Writes the seeds of a target below the directory that the environment names.
pub(crate) fn keep(target: &str, seeds: &[Seed]) {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = std::path::PathBuf::from(directory).join(target);
    std::fs::create_dir_all(&directory).unwrap();
    for (name, bytes) in seeds {
        std::fs::write(directory.join(name), bytes).unwrap();
    }
}

/// One of the seeds, changed as `plan` says: four bytes for each change.
pub(crate) fn varied(seeds: &[Seed], plan: &[u8]) -> Vec<u8> {
    let (which, changes) = plan.split_first().map_or((0, plan), |(which, rest)| (*which, rest));
    let mut bytes = seeds[usize::from(which) % seeds.len()].1.clone();
    // A few: a seed that is changed all over is none any more.
    for change in changes.chunks_exact(4).take(6) {
        let [high, low, kind, value] = *change else { unreachable!("chunks of four") };
        let at = usize::from(u16::from_be_bytes([high, low])) % (bytes.len() + 1);
        match kind % 8 {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, value),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => bytes.extend(std::iter::repeat_n(value, at)),
            4 if at < bytes.len() => bytes[at] ^= 1 << (value % 8),
            // Values on the edge.
            5 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][usize::from(value) % 5],
            _ if at < bytes.len() => bytes[at] = value,
            _ => {}
        }
    }
    bytes
}
