//! `[files.inject]` and `[overlay] dns`: files that are there inside only.

use std::net::IpAddr;
use std::path::PathBuf;

use super::{Bind, Dns, from_home, inside};
use crate::config::{Mistake, Source, at};

/// A file that is there inside only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// Where it is inside, absolute.
    pub path: PathBuf,
    /// What is in it.
    pub content: Content,
}

/// What is in an injected file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// This.
    Text(String),
    /// What is in this file of the host when the space starts.
    File(PathBuf),
}

/// Where programs look for name servers.
const RESOLVER: &str = "/etc/resolv.conf";

/// As many as programs ask (resolv.conf(5)).
const MOST_SERVERS: usize = 3;

/// The injected files, none in the place of another or of what is bound.
pub(super) fn convert(
    source: &Source<'_>,
    given: Option<toml::map::Map<String, toml::Value>>,
    dns: &Dns,
    binds: &[Bind],
) -> Result<Vec<Injected>, Mistake> {
    let mut injected: Vec<Injected> = Vec::new();
    if let Some(dns) = dns {
        let path = PathBuf::from(RESOLVER);
        injected.push(Injected { path, content: Content::Text(resolver(source, dns)?) });
    }
    for (text, value) in given.unwrap_or_default() {
        let wrong = |what: &str| {
            let line = source.text.lines().scan(0, |offset, line| {
                let start = *offset;
                *offset += line.len() + 1;
                Some((start, line))
            });
            let mut found = line.filter(|(_, line)| line.contains(&format!("{text:?}")));
            let start = found.next().map(|(start, _)| start..start);
            source.mistake(start, Some("[files.inject]"), format!("{text:?} {what}"))
        };
        let path = inside(&text).ok_or_else(|| wrong(super::NO_PLACE))?;
        let content = content(value).map_err(wrong)?;
        let new = Injected { path, content };
        if let Some(other) = injected.iter().find(|other| in_the_way(&other.path, &new.path)) {
            return Err(wrong(
                &match other.path == new.path && other.path.as_os_str() == RESOLVER {
                    true => "is made by [overlay] dns already; remove one of the two".to_owned(),
                    false => format!(
                        "and {} cannot both be files; keep one of the two",
                        other.path.display()
                    ),
                },
            ));
        }
        if let Some(bind) = binds.iter().find(|bind| in_the_way(&bind.path, &new.path)) {
            let bound = bind.path.display();
            return Err(wrong(&format!(
                "is in the way of what is bound at {bound}; inject it elsewhere, or remove the bind"
            )));
        }
        injected.push(new);
    }
    Ok(injected)
}

fn in_the_way(one: &std::path::Path, other: &std::path::Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn content(value: toml::Value) -> Result<Content, &'static str> {
    const NEITHER: &str = "is neither text nor a file; write \"/path\" = \"text\" or \"/path\" = { from = \"/file\" }";
    match value {
        toml::Value::String(text) => Ok(Content::Text(text)),
        toml::Value::Table(table) if table.len() == 1 => {
            let from = table.get("from").and_then(toml::Value::as_str).ok_or(NEITHER)?;
            let from = from_home(from);
            from.map(Content::File)
                .ok_or("comes from a path that is not absolute; write it from / or ~/ on")
        }
        _ => Err(NEITHER),
    }
}

fn resolver(source: &Source<'_>, dns: &toml::Spanned<Vec<String>>) -> Result<String, Mistake> {
    let mut text = String::new();
    for server in dns.get_ref() {
        let address: IpAddr = server.parse().map_err(|_| {
            let what =
                format!("{server:?} is no address; write the name server's, like \"10.1.0.53\"");
            at(source, dns, what)
        })?;
        text.push_str(&format!("nameserver {address}\n"));
    }
    if !(1..=MOST_SERVERS).contains(&dns.get_ref().len()) {
        let what = format!("programs ask one to {MOST_SERVERS} name servers; name as many");
        return Err(at(source, dns, what));
    }
    Ok(text)
}
