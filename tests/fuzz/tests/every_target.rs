//! A few thousand inputs of every target, the same ones each time.

use fuzz::{Campaign, corpus, shrink, targets};

/// How many, but for the whole machine, which is slower.
const INPUTS: u64 = 3000;

fn search(name: &str, inputs: u64) {
    let target = targets::find(name).expect("there is such a target");
    let mut campaign = Campaign::new(target, 1, corpus::kept(name));
    while campaign.runs() < inputs {
        let input = campaign.next_input();
        if let Err(failure) = campaign.play(input) {
            let small = shrink(target, failure);
            panic!("{name} does not survive {:02x?}: {}", small.input, small.message);
        }
    }
    assert!(campaign.answers() > 3, "{name} shows nothing that could steer the search");
}

macro_rules! targets {
    ($($test:ident $name:literal $inputs:expr;)*) => {
        $(#[test] fn $test() { search($name, $inputs); })*

        #[test]
        fn every_target_is_tested() {
            let tested = [$($name),*];
            for target in targets::ALL {
                assert!(tested.contains(&target.name), "{} has no test", target.name);
            }
        }
    };
}

targets! {
    acpi_pm "acpi-pm" INPUTS;
    archive "archive" INPUTS;
    config "config" INPUTS;
    emulate "emulate" INPUTS;
    firmware "firmware" INPUTS;
    flash "flash" INPUTS;
    flat "flat" 300;
    fw_cfg "fw-cfg" INPUTS;
    hpet "hpet" INPUTS;
    i8042 "i8042" INPUTS;
    ioapic "ioapic" INPUTS;
    lapic "lapic" INPUTS;
    loader "loader" 300;
    machine "machine" 300;
    multiboot "multiboot" 1000;
    pc "pc" INPUTS;
    pci "pci" INPUTS;
    pic "pic" INPUTS;
    pit "pit" INPUTS;
    reset_control "reset-control" INPUTS;
    rtc "rtc" INPUTS;
    uart "uart" INPUTS;
    vga "vga" 300;
}
