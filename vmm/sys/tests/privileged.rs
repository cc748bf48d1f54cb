//! What takes root, or a user who may make namespaces: ignored, with the reason, where it is refused.

use std::fs;
use std::process::{Command, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use sys::namespace::{Network, die_with_parent};

fn main() {
    let arguments = Arguments::from_args();
    let refused = Network::new().err();
    if let Some(reason) = &refused {
        eprintln!("ignoring what needs a network namespace: {reason}");
    }
    let trial = |name: &str, test: fn() -> Result<(), Failed>| {
        Trial::test(name, test).with_ignored_flag(refused.is_some())
    };
    let trials = vec![trial(
        "work_in_another_network_sees_that_network_alone",
        work_in_another_network_sees_that_network_alone,
    )];
    libtest_mimic::run(&arguments, trials).exit();
}

fn work_in_another_network_sees_that_network_alone() -> Result<(), Failed> {
    let other = Network::new()?;
    let inside = other.run(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
    assert_eq!(devices(&inside), ["lo"]);

    let mut command = Command::new("cat");
    command.arg("/proc/self/net/dev").stdout(Stdio::piped());
    other.attach(&mut command);
    die_with_parent(&mut command);
    let output = command.spawn()?.wait_with_output()?;
    assert_eq!(devices(&String::from_utf8(output.stdout)?), ["lo"]);
    Ok(())
}

fn devices(proc_net_dev: &str) -> Vec<&str> {
    proc_net_dev.lines().filter_map(|line| Some(line.split_once(':')?.0.trim())).collect()
}
