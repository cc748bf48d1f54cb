//! The portspace binary.

fn main() -> std::process::ExitCode {
    cli::main()
}
