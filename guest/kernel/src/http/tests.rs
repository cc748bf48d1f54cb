use super::*;
use std::format;

/// Feeds `bytes` in pieces of `step` and ends the connection.
fn receive(bytes: &[u8], step: usize) -> Result<Vec<u8>, Wrong> {
    let (mut response, mut body) = (Response::default(), Vec::new());
    for piece in bytes.chunks(step) {
        if response.feed(piece, &mut body)? {
            return Ok(body);
        }
    }
    response.end()?;
    Ok(body)
}

#[test]
fn every_framing_gives_the_body_however_it_is_cut() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello worldIGNORED";
    let close = "HTTP/1.0 200 OK\r\nServer: x\r\n\r\nhello world";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n\
        6\r\nhello \r\n5;name=value\r\nworld\r\n0\r\nTrailer: x\r\n\r\n";
    for answer in [length, close, chunked] {
        let steps = if answer == length { 1..2 } else { 1..80 };
        for step in steps {
            assert_eq!(receive(answer.as_bytes(), step), Ok(b"hello world".to_vec()), "{answer}");
        }
    }
}

#[test]
fn an_empty_file_is_whole_at_once() {
    assert_eq!(receive(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 9), Ok(Vec::new()));
}

#[test]
fn a_body_cut_short_is_an_error() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello world",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n",
    ] {
        assert_eq!(receive(answer.as_bytes(), 7), Err(Wrong::Short));
    }
}

#[test]
fn answers_that_are_no_file_say_why() {
    let cases = [
        ("HTTP/1.1 404 Not Found\r\n\r\n", Wrong::Status(404, "Not Found".to_string())),
        ("HTTP/1.1 301\r\n\r\n", Wrong::Status(301, String::new())),
        ("SSH-2.0-x\r\n\r\n", Wrong::Head),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Wrong::Length),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Wrong::Length),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Wrong::Coding("gzip".to_string())),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\n", Wrong::Chunk),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n", Wrong::Chunk),
    ];
    for (answer, wrong) in cases {
        assert_eq!(receive(answer.as_bytes(), 1000), Err(wrong), "{answer}");
    }
}

#[test]
fn a_head_without_end_is_given_up() {
    let mut response = Response::default();
    let mut given_up = false;
    for _ in 0..100 {
        given_up |= response.feed(&[b'x'; 1000], &mut Vec::new()).is_err();
    }
    assert!(given_up);
}

#[test]
fn urls_are_addresses_ports_and_paths() {
    let url = Url::parse("http://192.0.2.20:8000/a/b?c#d").expect("a URL");
    assert_eq!(url.server, "192.0.2.20:8000".parse().unwrap());
    assert_eq!(url.path, "/a/b?c");
    assert!(url.request().starts_with("GET /a/b?c HTTP/1.1\r\nHost: 192.0.2.20:8000\r\n"));
    assert_eq!(
        Url::parse("http://1.2.3.4").map(|url| (url.server.port(), url.path)),
        Some((80, "/".into()))
    );
    let url = Url::parse("http://[2001:db8::20]:8000/x").expect("a URL");
    assert_eq!((url.server, &url.path[..]), ("[2001:db8::20]:8000".parse().unwrap(), "/x"));
    assert!(url.request().contains("\r\nHost: [2001:db8::20]:8000\r\n"));
    let url = Url::parse("http://[::1]").expect("a URL");
    assert_eq!((url.server, &url.path[..]), ("[::1]:80".parse().unwrap(), "/"));
    for bad in ["http://[::1", "http://[1.2.3.4]/", "http://[::1]x/", "http://::1/"] {
        assert_eq!(Url::parse(bad), None, "{bad}");
    }
    assert_eq!(Url::parse("http://1.2.3.4?q").map(|url| url.path), Some("/?q".into()));
    for bad in ["https://1.2.3.4/", "http://example.org/", "http://1.2.3.4:0/", "1.2.3.4", ""] {
        assert_eq!(Url::parse(bad), None, "{bad}");
    }
    assert_eq!(Url::parse(&format!("http://1.2.3.4/{}", "a b")), None);
}
