//! Behaviour of the debugging ports.

use super::*;

#[test]
fn the_diagnostic_port_keeps_the_last_byte_until_reset() {
    let mut ports = DebugPorts::new(DebugExit::Absent, DebugConsole::Silent);
    ports.write_diagnostic(0x12);
    ports.write_diagnostic(0x34);
    let mut copy = DebugPorts::new(DebugExit::Absent, DebugConsole::Silent);
    copy.restore(&ports.save());
    assert_eq!(copy.diagnostic(), 0x34);
    copy.reset();
    assert_eq!(copy.diagnostic(), 0);
}

#[test]
fn the_debug_console_tells_its_number_and_shows_text_if_it_shall() {
    let silent = DebugPorts::new(DebugExit::Absent, DebugConsole::Silent);
    assert_eq!((silent.read_console(), silent.write_console(b'x')), (0xe9, None));
    let shown = DebugPorts::new(DebugExit::Absent, DebugConsole::OnConsole);
    assert_eq!((shown.read_console(), shown.write_console(b'x')), (0xe9, Some(b'x')));
}

#[test]
fn the_exit_device_ends_with_twice_the_value_and_one() {
    let ports = DebugPorts::new(DebugExit::Present, DebugConsole::Silent);
    for (value, status) in [(0, 1), (1, 3), (0x10, 0x21), (0x7f, 0xff), (0x8000_0001, 3)] {
        assert_eq!(ports.write_exit(0, 4, value), Some(PowerRequest::Exit { status }));
    }
    assert_eq!(ports.read_exit(), 0);
}

#[test]
fn a_write_past_the_exit_device_is_not_for_it() {
    let ports = DebugPorts::new(DebugExit::Present, DebugConsole::Silent);
    for offset in 0..4 {
        for bytes in [1, 2, 4] {
            let fits = usize::from(offset) + bytes <= 4;
            assert_eq!(ports.write_exit(offset, bytes, 0).is_some(), fits);
        }
    }
}

#[test]
fn without_the_exit_device_there_is_nothing() {
    let ports = DebugPorts::new(DebugExit::Absent, DebugConsole::Silent);
    assert_eq!((ports.read_exit(), ports.write_exit(0, 4, 1)), (0xff, None));
}

#[test]
fn firmware_finds_its_console_only_where_somebody_reads_it() {
    let read = |console| DebugPorts::new(DebugExit::Absent, console).read_firmware_console();
    assert_eq!(read(DebugConsole::OnConsole), 0xe9);
    assert_eq!(read(DebugConsole::Silent), 0xff);
}
