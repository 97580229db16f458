//! tmp
use proptest::prelude::*;
#[test]
fn dbg() {
    let text = include_str!("properties.proptest-regressions");
    for line in text.lines().filter(|l| l.starts_with("cc")) {
        let list = line.split("bytes = [").nth(1).unwrap().trim_end_matches(']');
        let bytes: Vec<u8> = list.split(',').filter_map(|x| x.trim().parse().ok()).collect();
        println!("{bytes:?}");
        let r = std::panic::catch_unwind(|| vm_sim::run_bytes(&bytes));
        println!("{r:?}");
    }
    let _ = any::<u8>();
}
