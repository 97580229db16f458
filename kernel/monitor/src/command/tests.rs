//! The parser of command lines.

use super::*;

#[test]
fn every_command_in_the_table_is_understood() {
    for command in COMMANDS {
        let line = match command.name {
            "vm" => "vm list",
            "keys" => "keys a b",
            name => name,
        };
        assert!(parse(line).is_ok(), "{line}");
    }
    for verb in VM_VERBS {
        let rest = match verb {
            "create" => " a b",
            "set" => " weight=1",
            "destroy" => " a",
            _ => "",
        };
        assert!(parse(&format!("vm {verb}{rest}")).is_ok(), "vm {verb}");
    }
    for level in LEVELS {
        assert!(matches!(parse(&format!("log {level}")), Ok(Command::SetLog(_))), "log {level}");
    }
}

#[test]
fn blanks_around_words_do_not_matter() {
    assert_eq!(parse("   "), Ok(Command::Nothing));
    assert_eq!(parse("  vm   stop  linux "), Ok(Command::Vm(VmVerb::Stop, Some("linux"))));
    assert_eq!(parse("exits linux 1"), Ok(Command::Exits(Some("linux"), Some("1"))));
}

#[test]
fn mistakes_name_the_word_and_the_way_out() {
    let message = |line| parse(line).expect_err("a mistake").to_string();
    assert_eq!(message("hots"), "'hots' is no command; 'help' lists them; did you mean 'host'?");
    assert_eq!(message("xyzzy"), "'xyzzy' is no command; 'help' lists them");
    assert_eq!(
        message("vm"),
        "'vm' needs a second word: list, info, console, create, start, pause, resume, stop, reset, set, destroy"
    );
    assert!(message("vm strat linux").contains("did you mean 'start'?"));
    assert!(message("log loud").contains("there are off, error, warn, info, debug, trace"));
    assert_eq!(message("host now"), "'now' is one word too many; usage: host");
    assert!(message("vm stop a b").starts_with("'b' is one word too many; usage: vm list"));
}

#[test]
fn create_takes_two_names_settings_and_a_command_line_to_the_end() {
    let expected = Overrides {
        memory_mib: Some(256),
        command_line: Some("console=ttyS0  quiet weight=3".into()),
        ..Overrides::default()
    };
    assert_eq!(
        parse(" vm  create b.2 a memory=256 cmdline=console=ttyS0  quiet weight=3 "),
        Ok(Command::VmCreate { name: "b.2", from: "a", overrides: expected })
    );
    let message = |line| parse(line).expect_err("a mistake").to_string();
    assert_eq!(message("vm create"), "the new name is missing; usage: vm create NAME FROM [KEY=VALUE ...]");
    assert!(message("vm create a").starts_with("the virtual machine to be like is missing"));
    assert!(message("vm create a weight=3").starts_with("the virtual machine to be like is missing"));
    assert!(message("vm create a/b c").starts_with("'a/b' is not a name; use 1 to 32 letters"));
    assert!(message(&format!("vm create {} c", "x".repeat(33))).contains("is not a name"));
    assert!(parse(&format!("vm create {} c", "x".repeat(32))).is_ok());
}

#[test]
fn set_may_leave_the_name_out_and_destroy_may_not() {
    let change = SchedulingChange { weight: Some(5), ..SchedulingChange::default() };
    assert_eq!(parse("vm set weight=5"), Ok(Command::VmSet(None, change.clone())));
    assert_eq!(parse("vm set a weight=5"), Ok(Command::VmSet(Some("a"), change)));
    let message = |line| parse(line).expect_err("a mistake").to_string();
    assert_eq!(message("vm set"), "what to set is missing; usage: vm set [NAME] KEY=VALUE ...");
    assert_eq!(message("vm set a"), "what to set is missing; usage: vm set [NAME] KEY=VALUE ...");
    assert_eq!(message("vm destroy"), "the name of what to destroy is missing; usage: vm destroy NAME");
}

#[test]
fn stats_takes_a_name_and_a_vcpu() {
    assert_eq!(parse("stats"), Ok(Command::Stats(None, None)));
    assert_eq!(parse("stats host"), Ok(Command::Stats(Some("host"), None)));
    assert_eq!(parse("stats a vcpu 1"), Ok(Command::Stats(Some("a"), Some("1"))));
    assert_eq!(parse("stats vcpu 1"), Ok(Command::Stats(None, Some("1"))));
    assert_eq!(parse("stats vcpu vcpu 1"), Ok(Command::Stats(Some("vcpu"), Some("1"))));
    let message = |line| parse(line).expect_err("a mistake").to_string();
    assert!(message("stats a vcpu").starts_with("the number of the vCPU is missing; usage: stats"));
    assert!(message("stats a b").starts_with("'b' is one word too many"));
    assert!(message("stats a vcpu 1 2").starts_with("'2' is one word too many"));
}

#[test]
fn top_takes_seconds_and_a_count() {
    let top = |line| match parse(line) {
        Ok(Command::Top(interval, count)) => (interval.as_millis(), count),
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(top("top"), (1000, None));
    assert_eq!(top("top 5"), (5000, None));
    assert_eq!(top("top 0.5 1"), (500, Some(1)));
    assert_eq!(top("top 3600 4294967295"), (3_600_000, Some(u32::MAX)));
    let message = |line| parse(line).expect_err("a mistake").to_string();
    for line in ["top 0", "top 0.0", "top .", "top 1.", "top .5", "top 1.25", "top 3601", "top -1", "top x"] {
        assert!(message(line).ends_with("is no time; use seconds from 0.1 to 3600"), "{line}");
    }
    for line in ["top 1 0", "top 1 x", "top 1 4294967296"] {
        assert!(message(line).ends_with("is no number of times; use 1 or more"), "{line}");
    }
    assert!(message("top 1 2 3").starts_with("'3' is one word too many; usage: top"));
}

#[test]
fn long_lists_are_cut() {
    let words = ["w"; MOST_LISTED + 3];
    assert!(OneOf(&words).to_string().ends_with("w, w and 3 more"));
    assert!(OneOf(&words[..MOST_LISTED]).to_string().ends_with("w, w"));
}

#[test]
fn what_is_typed_is_the_rest_of_the_line() {
    assert_eq!(parse(" keys web  ls  -l <enter> "), Ok(Command::Keys("web", " ls  -l <enter>")));
    assert_eq!(parse("keys web x"), Ok(Command::Keys("web", "x")));
    for line in ["keys", "keys web", "keys web "] {
        assert!(matches!(parse(line), Err(ParseError::Missing { .. })), "{line}");
    }
}
