use super::*;

/// A client, and the relay that serves it.
fn connected() -> (UnixStream, Relay) {
    let (client, stream) = UnixStream::pair().unwrap();
    stream.set_nonblocking(true).unwrap();
    client.set_nonblocking(true).unwrap();
    (client, Relay::new(stream))
}

fn status(ready: bool) -> Status {
    let ready_ns = ready.then_some(2);
    Status { pid: 1, ready, started_ns: 1, ready_ns, vm_kib: 3, guest_kib: 4 }
}

fn answer(mut client: &UnixStream) -> Vec<u8> {
    let mut bytes = vec![0; 65536];
    let length = client.read(&mut bytes).unwrap_or(0);
    bytes.truncate(length);
    bytes
}

#[test]
fn a_client_that_asks_how_the_machine_is_gets_one_line() {
    let (mut client, mut relay) = connected();
    client.write_all(b"{\"status\":{}}\n").unwrap();
    assert_eq!(relay.pump(None, &|| status(false)), Need::Over);
    let answered: Status = serde_json::from_slice(&answer(&client)).unwrap();
    assert_eq!(answered, status(false));
}

#[test]
fn a_client_that_waits_is_answered_once_programs_can_be_run() {
    let (mut client, mut relay) = connected();
    client.write_all(b"{\"wait\":{}}\n").unwrap();
    assert!(matches!(relay.pump(None, &|| status(false)), Need::Events(_)));
    assert!(answer(&client).is_empty());
    assert_eq!(relay.pump(None, &|| status(true)), Need::Over);
    assert!(!answer(&client).is_empty());
}

#[test]
fn half_a_request_waits_and_nonsense_ends_the_client_alone() {
    let (mut client, mut relay) = connected();
    client.write_all(b"{\"sta").unwrap();
    assert!(matches!(relay.pump(None, &|| status(true)), Need::Events(_)));
    client.write_all(b"tion\":{}}\n").unwrap();
    assert_eq!(relay.pump(None, &|| status(true)), Need::Over);

    let (client, mut relay) = connected();
    drop(client);
    assert_eq!(relay.pump(None, &|| status(true)), Need::Over);
}

#[test]
fn a_request_without_end_is_bounded() {
    let (mut client, mut relay) = connected();
    let mut sent = 0;
    loop {
        sent += client.write(&[b' '; 4096]).unwrap_or(0);
        match relay.pump(None, &|| status(true)) {
            Need::Over => break,
            _ => assert!(sent <= 2 * MAX_REQUEST, "the relay keeps no more than a request"),
        }
    }
}

#[test]
fn a_run_without_a_guest_ends_with_a_sentence_and_a_status() {
    let (mut client, mut relay) = connected();
    client.write_all(b"{\"run\":{\"arguments\":[\"true\"]}}\n").unwrap();
    assert_eq!(relay.pump(None, &|| status(false)), Need::Over);
    let bytes = answer(&client);
    let (kind, sentence, length) = exec::decode(&bytes).unwrap().unwrap();
    assert_eq!(kind, exec::Kind::Stderr);
    assert!(sentence.ends_with(b"\n"));
    let (kind, code, _) = exec::decode(&bytes[length..]).unwrap().unwrap();
    assert_eq!((kind, code), (exec::Kind::Exit, &[CANNOT_RUN][..]));
}

#[test]
fn a_client_may_end_the_machine() {
    let (mut client, mut relay) = connected();
    client.write_all(b"{\"stop\":{}}\n").unwrap();
    assert_eq!(relay.pump(None, &|| status(true)), Need::Stop);
}
