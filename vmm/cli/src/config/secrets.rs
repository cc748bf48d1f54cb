//! What of homes no space sees unless its configuration says otherwise.

use std::path::PathBuf;

/// Below each home: keys, passwords and the sessions of browsers.
const SECRETS: [&str; 24] = [
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".config/gcloud",
    ".config/gh",
    ".docker/config.json",
    ".netrc",
    ".git-credentials",
    ".pgpass",
    ".password-store",
    ".local/share/keyrings",
    ".local/share/kwalletd",
    ".mozilla",
    ".thunderbird",
    ".config/google-chrome",
    ".config/chromium",
    ".config/BraveSoftware",
    ".config/microsoft-edge",
    ".config/vivaldi",
    ".config/opera",
    "snap",
    ".var/app",
];

/// The secrets of every home.
pub(super) fn secrets() -> impl Iterator<Item = PathBuf> {
    let each = |home: PathBuf| SECRETS.iter().map(move |secret| home.join(secret));
    homes().into_iter().flat_map(each)
}

pub(super) fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute())
}

/// The user's own home; root reads the others as well.
fn homes() -> Vec<PathBuf> {
    let mut homes: Vec<_> = home().into_iter().collect();
    if rustix::process::geteuid().is_root() {
        homes.push("/root".into());
        let others = std::fs::read_dir("/home").into_iter().flatten().flatten();
        homes.extend(others.map(|home| home.path()));
    }
    homes.sort();
    homes.dedup();
    homes
}
