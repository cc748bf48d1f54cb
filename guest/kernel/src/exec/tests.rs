use super::*;
use crate::lab::Lab;
use crate::vsock::tests::Host;
use std::vec;

struct Runner {
    lab: Lab,
    vsock: Vsock,
    host: Host,
}

impl Runner {
    fn new() -> Runner {
        let lab = Lab::new();
        let vsock = Vsock::new();
        vsock.name(3);
        start(&vsock, lab.system(), &lab.executor.spawner());
        let mut host = Host::default();
        host.buffer = 1 << 20;
        host.open();
        let mut runner = Runner { lab, vsock, host };
        runner.turns();
        runner
    }

    fn turns(&mut self) {
        for _ in 0..20 {
            self.vsock.ingress(&mut self.host);
            self.lab.turn();
            self.vsock.egress(&mut self.host);
        }
    }

    fn send(&mut self, kind: Kind, payload: &[u8]) {
        let mut frame = Vec::new();
        exec::encode(kind, payload, &mut frame);
        self.host.send(&frame);
        self.turns();
    }

    fn run(&mut self, words: &[&str]) {
        let arguments = words.iter().map(|word| String::from(*word)).collect();
        let run = Run { arguments, directory: "/".into(), environment: vec![], files: vec![] };
        self.send(Kind::Run, &run.encode());
    }

    /// The frames from the guest, and whether it has ended the stream.
    fn heard(&self) -> (Vec<(Kind, Vec<u8>)>, bool) {
        let (bytes, ended) = self.host.stream();
        let (mut rest, mut frames) = (&bytes[..], Vec::new());
        while let Some((kind, payload, used)) = exec::decode(rest).unwrap() {
            frames.push((kind, payload.to_vec()));
            rest = &rest[used..];
        }
        (frames, ended)
    }
}

#[test]
fn a_run_ends_with_its_exit_status_and_the_streams_end() {
    let mut runner = Runner::new();
    runner.run(&["false"]);
    assert_eq!(runner.heard(), (vec![(Kind::Exit, vec![1])], true));
}

#[test]
fn input_goes_in_and_output_comes_out_before_the_exit() {
    let mut runner = Runner::new();
    runner.run(&["cat"]);
    runner.send(Kind::Stdin, b"one ");
    runner.send(Kind::Stdin, b"two");
    assert!(!runner.heard().1);
    runner.send(Kind::Stdin, b"");
    let out = |text: &[u8]| (Kind::Stdout, text.to_vec());
    let frames = vec![out(b"one "), out(b"two"), (Kind::Exit, vec![0])];
    assert_eq!(runner.heard(), (frames, true));
}

#[test]
fn an_interrupt_ends_the_program_and_frees_what_it_had() {
    let mut runner = Runner::new();
    runner.run(&["echo", "9"]);
    assert!(runner.lab.net.listen(9, crate::net::Windows::PLAIN).is_err());
    runner.send(Kind::Interrupt, b"");
    let (frames, ended) = runner.heard();
    assert_eq!((frames.last(), ended), (Some(&(Kind::Exit, vec![130])), true));
    assert!(runner.lab.net.listen(9, crate::net::Windows::PLAIN).is_ok());
}

#[test]
fn a_host_that_goes_away_ends_the_program() {
    let mut runner = Runner::new();
    runner.run(&["echo", "9"]);
    runner.host.reset();
    runner.turns();
    assert!(runner.lab.net.listen(9, crate::net::Windows::PLAIN).is_ok());
}

#[test]
fn frames_that_make_no_sense_end_the_stream() {
    for (kind, payload) in [(Kind::Run, &b"?"[..]), (Kind::Exit, b"\0"), (Kind::Stdout, b"x")] {
        let mut runner = Runner::new();
        runner.send(kind, payload);
        assert_eq!(runner.heard(), (vec![], true));
    }
}
