//! Guests of random bytes: whatever they do, the virtual machine keeps its own rules.

use proptest::prelude::*;
use vm_sim::run_bytes;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_bytes_leave_the_machine_in_a_defined_state(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        run_bytes(&bytes);
    }
}

#[test]
fn no_bytes_at_all_are_a_guest_that_does_nothing() {
    assert_eq!(run_bytes(&[]).exits, 0);
}

#[test]
fn the_same_bytes_play_the_same() {
    let bytes: Vec<u8> =
        (0..4000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect();
    assert_eq!(run_bytes(&bytes), run_bytes(&bytes));
    assert!(run_bytes(&bytes).exits > 100, "the bytes do something");
}
