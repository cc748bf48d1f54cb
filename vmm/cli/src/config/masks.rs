//! What of the parent's tree is never seen inside, whatever the root is.

use std::path::{Path, PathBuf};

use toml::Spanned;

use super::{Mistake, Source, at};

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

/// The masks of a space, as paths below `root`: those given, or the default ones.
///
/// # Errors
/// A given path that is neither absolute nor below `~`, or not below the root.
pub(super) fn convert(
    source: &Source<'_>,
    given: Option<Spanned<Vec<String>>>,
    root: Option<&Path>,
) -> Result<Vec<PathBuf>, Mistake> {
    let Some(root) = root else { return Ok(Vec::new()) };
    let Some(given) = given else { return Ok(default(root)) };
    let mut masks = Vec::new();
    for text in given.get_ref() {
        if text == "default" {
            masks.extend(default(root));
            continue;
        }
        let path = match text.strip_prefix("~/") {
            Some(rest) => home().unwrap_or_default().join(rest),
            None => PathBuf::from(text),
        };
        let below = path.strip_prefix(root).ok().filter(|below| below.file_name().is_some());
        match below {
            Some(below) => masks.push(below.to_owned()),
            None => {
                let what = format!(
                    "{text:?} is not below the root {}; write a path from / or ~/ on, or \"default\"",
                    root.display()
                );
                return Err(at(source, &given, what));
            }
        }
    }
    Ok(masks)
}

/// The secrets of every home below `root`.
fn default(root: &Path) -> Vec<PathBuf> {
    let homes = homes();
    let all = homes.iter().flat_map(|home| SECRETS.iter().map(|secret| home.join(secret)));
    all.filter_map(|path| path.strip_prefix(root).ok().map(Path::to_owned)).collect()
}

fn home() -> Option<PathBuf> {
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

#[cfg(test)]
mod tests {
    use super::super::FilesConfig;
    use super::*;

    fn masks(files: &str) -> Result<Vec<PathBuf>, String> {
        let text = format!("[files]\n{files}\n");
        FilesConfig::parse("f.toml", "red", &text)
            .map(|files| files.masks)
            .map_err(|m| m.to_string())
    }

    #[test]
    fn the_secrets_of_the_users_home_are_masked_unless_others_are_named() {
        let home = home().expect("tests have a home");
        let below = |path: &str| home.join(path).strip_prefix("/").unwrap().to_owned();
        let default = masks("root = \"/\"").unwrap();
        for secret in [".ssh", ".gnupg", ".aws", ".kube", ".mozilla", ".local/share/keyrings"] {
            assert!(default.contains(&below(secret)), "{secret}");
        }
        assert_eq!(masks("root = \"/\"\nmask = []"), Ok(Vec::new()));
        assert_eq!(masks("root = \"/\"\nmask = [\"~/x\"]"), Ok(vec![below("x")]));
        let more = masks("root = \"/\"\nmask = [\"default\", \"/srv/x\"]").unwrap();
        assert_eq!(more.len(), default.len() + 1);
    }

    #[test]
    fn only_what_is_below_the_root_is_masked() {
        assert_eq!(masks("root = \"/srv/project\""), Ok(Vec::new()));
        assert_eq!(masks("root = \"/srv\"\nmask = [\"/srv/a/b\"]"), Ok(vec!["a/b".into()]));
        for mask in ["/etc/x", "x", "/srv"] {
            let refused = masks(&format!("root = \"/srv\"\nmask = [\"{mask}\"]")).unwrap_err();
            assert!(refused.contains("is not below the root /srv"), "{refused}");
        }
        assert_eq!(masks("mask = [\"/etc/x\"]"), Ok(Vec::new()));
    }
}
