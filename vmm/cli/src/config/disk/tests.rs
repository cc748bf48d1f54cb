use super::*;
use crate::config::Config;
use crate::config::tests::GOOD;

#[test]
fn a_disk_names_its_image_and_the_images_format() {
    let with = |disks: &str| Config::parse("red.toml", "red", &format!("{GOOD}{disks}"));
    let good = "[[disks]]\nimage = \"/images/a\"\nformat = \"raw\"\n";
    let read_only = "[[disks]]\nimage = \"/images/b\"\nformat = \"raw\"\nread_only = true\n";
    let disks = with(&[good, read_only].concat()).unwrap().disks;
    assert_eq!(
        disks,
        [
            Disk { image: "/images/a".into(), read_only: false },
            Disk { image: "/images/b".into(), read_only: true }
        ]
    );
    let line = GOOD.lines().count() + 2;
    for (disks, words) in [
        (
            good.replace("format = \"raw\"\n", ""),
            format!(
                "red.toml:{line}: [[disks]] format: is missing, and never guessed; write format"
            ),
        ),
        (
            good.replace("raw", "qcow2"),
            format!("red.toml:{}: [[disks]] format: \"qcow2\" is no format of an image", line + 1),
        ),
        (
            good.replace("/images/a", "a"),
            format!("red.toml:{line}: [[disks]] image: is not absolute; write the image's path"),
        ),
        (
            good.replace("image", "img"),
            format!("red.toml:{line}: [[disks]] img: unknown field `img`"),
        ),
        (
            good.repeat(5),
            format!(
                "red.toml:{}: [[disks]]: is one disk too many; a space has at most 4",
                line + 11
            ),
        ),
    ] {
        let text = with(&disks).unwrap_err().to_string();
        assert!(text.starts_with(&words) && text.contains("; "), "{text} is not {words}");
    }
}
