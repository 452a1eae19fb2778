//! The command line: that it is consistent, fits, and divides where it should.

use super::*;

#[test]
fn the_command_line_is_consistent() {
    <Cli as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn the_words_of_a_command_divide_at_the_image() {
    let of = |line: &str| operands(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let run = |count| Some(Operands { count, subcommand: "run" });
    assert_eq!(of("rkbox --root /x run -e A=1 --name run busybox sh -c run --name"), run(5));
    assert_eq!(of("rkbox run --rm busybox"), run(1));
    // Docker's rule: the image ends our options.
    assert_eq!(of("rkbox run --entrypoint sh busybox -euc true --rm --format json"), run(6));
    assert_eq!(of("rkbox run --no-such-option busybox"), None);
    assert_eq!(of("rkbox sandbox create web --net none"), Some(Operands { count: 0, subcommand: "create" }));
    assert_eq!(of("rkbox ps"), None);
}

#[test]
fn every_help_fits_eighty_columns() {
    fn check(command: &mut clap::Command) {
        let help = command.render_long_help().to_string() + &command.render_help().to_string();
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
        }
        for sub in command.get_subcommands_mut() {
            check(sub);
        }
    }
    let mut command = <Cli as clap::CommandFactory>::command();
    command.build();
    check(&mut command);
}
