//! The parser on tables made by hand, sound and broken.

use super::*;

/// Memory from address 0x1000 on.
struct Image(Vec<u8>);

const BASE: u64 = 0x1000;

impl PhysicalMemory for Image {
    fn bytes(&self, hpa: Hpa, length: u64) -> Option<&[u8]> {
        let start = usize::try_from(hpa.get().checked_sub(BASE)?).ok()?;
        self.0.get(start..start.checked_add(usize::try_from(length).ok()?)?)
    }
}

impl Image {
    fn end(&self) -> u64 {
        BASE + self.0.len() as u64
    }

    fn add_table(&mut self, signature: &[u8; 4], body: &[u8]) -> u64 {
        let address = self.end();
        let length = u32::try_from(36 + body.len()).expect("short");
        self.0.extend(signature);
        self.0.extend(length.to_le_bytes());
        self.0.extend([0; 28]);
        self.0.extend(body);
        address
    }

    fn add_root(&mut self, tables: &[u64]) -> Hpa {
        let body: Vec<u8> = tables.iter().flat_map(|address| address.to_le_bytes()).collect();
        let list = self.add_table(b"XSDT", &body);
        let root = self.end();
        self.0.extend(b"RSD PTR \0OEMID.\x02");
        self.0.extend([0; 8]);
        self.0.extend(list.to_le_bytes());
        self.0.extend([0; 4]);
        Hpa::new(root)
    }
}

fn madt() -> Vec<u8> {
    let mut body = 0xfee0_0000_u32.to_le_bytes().to_vec();
    body.extend(1_u32.to_le_bytes());
    body.extend([0, 8, 0, 0, 1, 0, 0, 0]);
    body.extend([0, 8, 1, 1, 1, 0, 0, 0]);
    // Disabled.
    body.extend([0, 8, 2, 2, 0, 0, 0, 0]);
    body.extend([1, 12, 9, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    // IRQ 0 is input 2; IRQ 9 is level-triggered, active low.
    body.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    body.extend([2, 10, 0, 9, 9, 0, 0, 0, 0x0f, 0]);
    // An x2APIC.
    body.extend([9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0]);
    body
}

fn fadt(dsdt: u64) -> Vec<u8> {
    let mut table = vec![0_u8; 148 - 36];
    let mut set =
        |offset: usize, bytes: &[u8]| table[offset - 36..offset - 36 + bytes.len()].copy_from_slice(bytes);
    set(48, &0xb2_u32.to_le_bytes());
    set(52, &[0xf1]);
    set(64, &0xb004_u32.to_le_bytes());
    set(76, &0xb008_u32.to_le_bytes());
    set(112, &(1_u32 << 10 | 1 << 8).to_le_bytes());
    set(116, &[1, 8, 0, 1]);
    set(120, &0xcf9_u64.to_le_bytes());
    set(128, &[6]);
    set(140, &dsdt.to_le_bytes());
    table
}

#[test]
fn a_complete_machine_is_read() {
    let mut image = Image(Vec::new());
    let dsdt = image.add_table(b"DSDT", b"\x08_S5_\x12\x06\x04\x0a\x05\x01\x00\x00");
    let fadt = image.add_table(b"FACP", &fadt(dsdt));
    let madt = image.add_table(b"APIC", &madt());
    let root = image.add_root(&[fadt, madt, 0xffff_0000]);
    let platform = parse(&image, root).expect("sound tables");
    let ids: Vec<u32> = platform.cpus.iter().map(|cpu| cpu.apic_id).collect();
    assert_eq!(ids, [0, 1, 0x100]);
    assert_eq!(platform.local_apic, 0xfee0_0000);
    assert_eq!(platform.io_apics, [IoApic { id: 9, address: 0xfec0_0000, first_gsi: 0 }]);
    assert_eq!(platform.isa_line(0).gsi, 2);
    assert_eq!(
        platform.isa_line(9),
        IsaLine { gsi: 9, polarity: Polarity::ActiveLow, trigger: Trigger::Level }
    );
    assert_eq!(
        platform.isa_line(4),
        IsaLine { gsi: 4, polarity: Polarity::ActiveHigh, trigger: Trigger::Edge }
    );
    assert_eq!(platform.pm_timer, Some(PmTimer { port: Port(0xb008), is_32_bit: true }));
    assert_eq!(
        platform.power,
        Power {
            soft_off: Some(SoftOff { pm1a_control: Port(0xb004), pm1b_control: None, type_a: 5, type_b: 1 }),
            acpi_enable: Some((Port(0xb2), 0xf1)),
            reset: Some((Register { place: Place::Port, address: 0xcf9 }, 6)),
        }
    );
}

#[test]
fn a_root_pointer_that_is_none_is_refused() {
    let image = Image(vec![0; 64]);
    let root = Hpa::new(BASE);
    assert_eq!(parse(&image, root), Err(AcpiError::BadRootPointer(root)));
    assert!(parse(&image, Hpa::new(u64::MAX)).is_err());
}

#[test]
fn a_machine_without_madt_is_refused() {
    let mut image = Image(Vec::new());
    let root = image.add_root(&[]);
    assert_eq!(parse(&image, root), Err(AcpiError::Missing("MADT")));
}

#[test]
fn entries_cut_short_or_of_length_zero_end_the_list() {
    for tail in [&[0_u8, 8, 5][..], &[1, 0, 0, 0], &[0, 3, 0], &[9, 4, 1, 1]] {
        let mut image = Image(Vec::new());
        let mut body = madt();
        body.extend(tail);
        let madt = image.add_table(b"APIC", &body);
        let root = image.add_root(&[madt]);
        assert_eq!(parse(&image, root).map(|platform| platform.cpus.len()), Ok(3));
    }
}

#[test]
fn soft_off_is_absent_when_its_object_is_not_a_package_of_integers() {
    for dsdt in [&b"_S5_\x12\x06\x04\x0a\x05\x01"[..], b"\x08_S5_", b"\x08_S5_\x0a\x05", b"\x08_S5_\x12\xc6"]
    {
        assert_eq!(soft_off::sleep_types(dsdt), None);
    }
    assert_eq!(soft_off::sleep_types(b"..\x08\\_S5_\x12\x0a\x04\x00\x00\x00"), Some((0, 0)));
}
