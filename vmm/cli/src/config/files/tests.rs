use super::super::FilesConfig;
use super::*;

fn files(text: &str) -> Result<Files, String> {
    let text = format!("[files]\n{text}\n");
    FilesConfig::parse("f.toml", "red", &text).map(|config| config.files).map_err(|m| m.to_string())
}

fn masks(text: &str) -> Result<Vec<PathBuf>, String> {
    files(text).map(|files| files.masks)
}

#[test]
fn the_secrets_of_the_users_home_are_masked_unless_others_are_named() {
    let home = home().expect("tests have a home");
    let default = masks("root = \"/\"").unwrap();
    for secret in [".ssh", ".gnupg", ".aws", ".kube", ".mozilla", ".local/share/keyrings"] {
        assert!(default.contains(&home.join(secret)), "{secret}");
    }
    assert_eq!(masks("root = \"/\"\nmask = []"), Ok(Vec::new()));
    assert_eq!(masks("root = \"/\"\nmask = [\"~/x\"]"), Ok(vec![home.join("x")]));
    let more = masks("root = \"/\"\nmask = [\"default\", \"/srv/x\"]").unwrap();
    assert_eq!(more.len(), default.len() + 1);
}

#[test]
fn only_what_is_below_the_root_is_masked_or_crossed() {
    assert_eq!(masks("root = \"/srv\"\nmask = [\"/srv/a/b\"]"), Ok(vec!["/srv/a/b".into()]));
    for path in ["/etc/x", "x", "/srv"] {
        for key in ["mask", "mounts"] {
            let refused = files(&format!("root = \"/srv\"\n{key} = [\"{path}\"]")).unwrap_err();
            let start =
                format!("f.toml:3: [files] {key}: {path:?} is not below the root /srv; write");
            assert!(refused.starts_with(&start), "{refused}");
        }
    }
    let mounts = files("root = \"/\"\nmounts = [\"/home\", \"/srv/a\"]").unwrap().mounts;
    assert_eq!(mounts, Some(vec!["/home".into(), "/srv/a".into()]));
    assert_eq!(files("root = \"/\"\nmounts = []").unwrap().mounts, Some(Vec::new()));
    assert_eq!(files("root = \"/\"").unwrap().mounts, None);
}

#[test]
fn a_bind_is_read_only_unless_it_is_shared_on_purpose() {
    let text = "[[files.bind]]\npath = \"/data\"\n\
        [[files.bind]]\npath = \"/in/out\"\nsource = \"~/out\"\nmode = \"shared\"";
    let out = home().unwrap().join("out");
    let bind = |path: &str, source, shared| Bind { path: path.into(), source, shared };
    assert_eq!(
        files(text).unwrap().binds,
        [bind("/data", "/data".into(), false), bind("/in/out", out, true)]
    );
    for (bind, said) in [
        ("path = \"data\"", "f.toml:3: [[files.bind]] path: is no place inside; write a path"),
        ("path = \"/\"", "path: is no place inside"),
        ("path = \"/a/../b\"", "path: is no place inside"),
        (
            "path = \"/a\"\nsource = \"b\"",
            "f.toml:4: [[files.bind]] source: is not absolute; write",
        ),
        (
            "path = \"/a\"\nmode = \"rw\"",
            "mode: \"rw\" is no mode; use \"read-only\" or \"shared\"",
        ),
        ("path = \"/a\"\n[[files.bind]]\npath = \"/a/\"", "path: /a is bound twice; keep one"),
        ("source = \"/a\"", "missing field `path`; add the field"),
    ] {
        let refused = files(&format!("[[files.bind]]\n{bind}")).unwrap_err();
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn files_are_injected_as_text_or_from_files() {
    let text =
        "[files.inject]\n\"/etc/hosts\" = \"127.0.0.1 here\\n\"\n\"/a/b\" = { from = \"/srv/b\" }";
    let one = |path: &str, content| Injected { path: path.into(), content };
    assert_eq!(
        files(text).unwrap().injected,
        [
            one("/a/b", Content::File("/srv/b".into())),
            one("/etc/hosts", Content::Text("127.0.0.1 here\n".into())),
        ]
    );
    for (inject, said) in [
        ("\"etc\" = \"\"", "f.toml:3: [files.inject]: \"etc\" is no place inside; write a path"),
        ("\"/etc\" = 1", "\"/etc\" is neither text nor a file; write"),
        ("\"/etc\" = { from = \"a\" }", "\"/etc\" comes from a path that is not absolute; write"),
        ("\"/etc\" = { form = \"/a\" }", "\"/etc\" is neither text nor a file; write"),
        ("\"/a\" = \"\"\n\"/a/b\" = \"\"", "\"/a/b\" and /a cannot both be files; keep one"),
        ("\"/in/b\" = \"\"\n[[files.bind]]\npath = \"/in\"", "in the way of what is bound at /in;"),
    ] {
        let refused = files(&format!("[files.inject]\n{inject}")).unwrap_err();
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn name_servers_become_a_file_by_themselves() {
    let dns = |text: &str| {
        let text = format!("[overlay]\ndns = {text}\n");
        FilesConfig::parse("f.toml", "red", &text).map_err(|m| m.to_string())
    };
    let injected = dns("[\"10.1.0.53\", \"2001:db8::53\"]").unwrap().files.injected;
    let text = "nameserver 10.1.0.53\nnameserver 2001:db8::53\n".to_owned();
    let path = "/etc/resolv.conf".into();
    assert_eq!(injected, [Injected { path, content: Content::Text(text) }]);
    let refused = dns("[\"here\"]").unwrap_err();
    assert!(refused.starts_with("f.toml:2: [overlay] dns: \"here\" is no address; write"));
    assert!(dns("[]").unwrap_err().contains("one to 3 name servers"));
    let both = dns("[\"10.1.0.53\"]\n[files.inject]\n\"/etc/resolv.conf\" = \"\"").unwrap_err();
    assert!(both.contains("is made by [overlay] dns already; remove one of the two"), "{both}");
}

#[test]
fn a_quota_is_a_size_that_something_fits_in() {
    assert_eq!(files("quota = \"2G\"").unwrap().quota, Some(2 << 30));
    assert_eq!(files("quota = 1000000").unwrap().quota, Some(1_000_000));
    assert!(
        files("quota = \"much\"").unwrap_err().starts_with("f.toml:2: [files] quota: is no size;")
    );
    assert!(files("quota = 0").unwrap_err().contains("is too little to write anything; write"));
}
