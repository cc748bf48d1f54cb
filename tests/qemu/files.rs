//! A space's files inside a Linux nobody here wrote, through its own virtio-fs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use cli::lab::Lab;
use cowfs::{Config, LowerLayer};
use tests::{Linux, ignore};

use crate::backend::Served;
use crate::machine::{Image, file_system};

/// The directories of a space.
struct Place(PathBuf);

impl Place {
    fn new(lab: &Lab) -> Place {
        let place = Place(lab.a.directory.join("space"));
        for name in ["lower", "upper", "work"] {
            fs::create_dir_all(place.at(name)).unwrap();
        }
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    /// A machine that has mounted the space over `lower` on /mnt.
    fn boot(&self, lab: &Lab, lower: LowerLayer) -> (Linux, Served) {
        let image = Image::build(lab).unwrap_or_else(|missing| ignore(missing));
        let socket = self.at("files.sock");
        let config = Config::new(vec![lower], self.at("upper"), self.at("work"));
        let served = Served::at(&socket, config);
        let mut linux = image.boot(lab, &file_system(&socket, "files"));
        linux.must("mkdir /mnt");
        linux.must("mount -t virtiofs files /mnt");
        (linux, served)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn seen(lab: &Lab) {
    let place = Place::new(lab);
    for (path, text) in [("plain", "the host's"), ("d/below", "below"), ("gone", ""), ("live", "1")]
    {
        place.write(&format!("lower/{path}"), text);
    }
    (0..300).for_each(|number| place.write(&format!("lower/many/{number}"), ""));
    let large: Vec<u8> = (0..3_u32 << 20).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect();
    place.write("lower/large", &large);
    symlink("d/below", place.at("lower/link")).unwrap();
    let (mut linux, served) = place.boot(lab, LowerLayer::Live(place.at("lower")));
    let mut is = |line: &str, said: &str| assert_eq!(linux.must(line).trim(), said, "{line}");
    is("cat /mnt/plain /mnt/link", "the host'sbelow");
    is("ls /mnt/many | wc -l", "300");
    is("ls -l /mnt/many | grep -c ' 0 .* 0 '", "300");
    // Read and copied up, in pieces of many pages.
    is("cp /mnt/large /mnt/copy && cmp /mnt/large /mnt/copy && echo same", "same");
    is("echo inside >>/mnt/plain; cat /mnt/plain", "the host'sinside");
    is("mv /mnt/d /mnt/moved; cat /mnt/moved/below; cat /mnt/link 2>&1 | wc -l", "below1");
    is("rm /mnt/gone; ls /mnt | tr '\\n' ' '", "copy large link live many moved plain");
    is("ln /mnt/plain /mnt/other; stat -c %h /mnt/plain", "2");
    is("chown 12:34 /mnt/copy; chmod 4750 /mnt/copy; stat -c '%a %u:%g' /mnt/copy", "4750 12:34");
    is("mknod /mnt/null c 1 3; stat -c '%F %t,%T' /mnt/null", "character special file 1,3");
    is("exec 3</mnt/moved/below; rm /mnt/moved/below; cat <&3; exec 3<&-", "below");
    is("truncate -s 5 /mnt/copy; wc -c </mnt/copy", "5");
    is(
        "mkdir /mnt/new && rmdir /mnt/new /mnt/moved && ls -d /mnt/moved 2>&1 | grep -c 'No such'",
        "1",
    );
    is("cat /mnt/live", "1");
    place.write("lower/live", "2");
    place.write("lower/late", "later");
    is("cat /mnt/live /mnt/late", "2later");
    is(
        "df /mnt | wc -l; sync; umount /mnt; mount -t virtiofs files /mnt; cat /mnt/other",
        "2\nthe host'sinside",
    );
    drop(linux);
    served.end();
    assert_eq!(
        (place.read("lower/plain"), place.read("upper/plain")),
        ("the host's".into(), "the host'sinside\n".into())
    );
    assert!(fs::read(place.at("lower/large")).unwrap() == large);
}

pub(crate) fn written_back(lab: &Lab) {
    let place = Place::new(lab);
    place.write("lower/old", "sealed");
    let sealed = LowerLayer::Sealed { files: place.at("lower"), index: None, own: true };
    let (mut linux, served) = place.boot(lab, sealed);
    let before = served.requests();
    linux.must("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done >/mnt/lines");
    let asked = served.requests() - before;
    assert!(asked < 200, "{asked} requests for 2000 writes: the kernel gathers them");
    linux.must("printf S | dd of=/mnt/old conv=notrunc");
    linux.must("cat /mnt/lines >/tmp/lines; cmp /mnt/lines /tmp/lines");
    let size = linux.must("stat -c %s /mnt/lines");
    linux.must("sync");
    let lines: String = (0..2000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(place.read("upper/lines"), lines);
    assert_eq!(size.trim(), lines.len().to_string());
    assert_eq!(
        (place.read("lower/old"), place.read("upper/old")),
        ("sealed".into(), "Sealed".into())
    );
    drop(linux);
    served.end();
}
