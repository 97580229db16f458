//! Tests of the archive reader: formats in use, links, and damage.

use super::testing::{archive, entry, entry_of_kind, seal};
use super::{Archive, Damage};
use proptest::prelude::*;

fn names(archive: &Archive<'_>) -> Vec<String> {
    archive.files().iter().map(|file| file.name().into()).collect()
}

#[test]
fn files_are_found_with_and_without_a_leading_dot() {
    let bytes = archive(&[
        entry_of_kind(b'5', "./", "", b""),
        entry("./craton.toml", b"[host]"),
        entry("images/vmlinuz", &[1; 513]),
        entry("empty", b""),
    ]);
    let archive = Archive::read(&bytes);
    assert_eq!(names(&archive), ["craton.toml", "images/vmlinuz", "empty"]);
    assert_eq!(archive.get("craton.toml"), Some(b"[host]".as_slice()));
    assert_eq!(archive.get("./images/vmlinuz").map(<[u8]>::len), Some(513));
    assert_eq!((archive.get("empty"), archive.get("none")), (Some(b"".as_slice()), None));
    assert_eq!(archive.damage(), None);
}

#[test]
fn long_names_and_prefixes_are_understood() {
    let long = "d/".repeat(80) + "kernel";
    let mut prefixed = entry("kernel", b"3");
    prefixed[345..348].copy_from_slice(b"a/b");
    seal(&mut prefixed);
    let record = format!("path={long}x\n");
    let bytes = archive(&[
        entry_of_kind(b'L', "././@LongLink", "", format!("{long}\0").as_bytes()),
        entry("cut", b"1"),
        entry_of_kind(b'x', "pax", "", format!("{} {record}", record.len() + 4).as_bytes()),
        entry("cut", b"2"),
        prefixed,
    ]);
    let archive = Archive::read(&bytes);
    assert_eq!(archive.damage(), None);
    assert_eq!(names(&archive), [long.clone(), format!("{long}x"), "a/b/kernel".into()]);
}

#[test]
fn links_lead_to_the_file_and_the_last_of_a_name_counts() {
    let bytes = archive(&[
        entry("boot/k", b"old"),
        entry("boot/k", b"new"),
        entry_of_kind(b'1', "hard", "boot/k", b""),
        entry_of_kind(b'2', "boot/soft", "k", b""),
        entry_of_kind(b'2', "dangling", "none", b""),
    ]);
    let archive = Archive::read(&bytes);
    for name in ["boot/k", "hard", "boot/soft"] {
        assert_eq!(archive.get(name), Some(b"new".as_slice()), "{name}");
    }
    assert_eq!(archive.get("dangling"), None);
}

#[test]
fn a_cut_names_the_file_and_leaves_those_before() {
    let mut bytes = archive(&[entry("a", b"whole"), entry("b", &[9; 2000])]);
    bytes.truncate(1024 + 512 + 1999);
    let archive = Archive::read(&bytes);
    let damage = Damage::CutShort { file: "b".into(), has: 1999, needs: 2000 };
    assert_eq!((archive.damage(), archive.damage_of("b")), (Some(&damage), Some(&damage)));
    assert_eq!((archive.get("a"), archive.damage_of("a")), (Some(b"whole".as_slice()), None));
    assert_eq!(
        damage.to_string(),
        "the boot archive is cut short inside `b`: 1999 of 2000 bytes are there; pack it and write the image again"
    );
}

#[test]
fn other_damage_is_told_apart() {
    let damage = |bytes: &[u8]| Archive::read(bytes).damage().expect("damaged").clone();
    assert_eq!(damage(b""), Damage::NoEnd { last: None });
    assert_eq!(damage(&entry("a", b"x")), Damage::NoEnd { last: Some("a".into()) });
    assert_eq!(damage(&[0x1f; 2048]), Damage::BadHeader { offset: 0 });
    let mut bytes = archive(&[entry("a", b"x"), entry("b", b"y")]);
    bytes[1024] = b'c';
    assert_eq!(damage(&bytes), Damage::BadHeader { offset: 1024 });
}

#[test]
fn base_256_sizes_beyond_the_archive_are_a_cut() {
    let mut huge = entry("a", b"x");
    huge[124..136].fill(0xff);
    seal(&mut huge);
    assert_eq!(Archive::read(&huge).damage(), Some(&Damage::BadHeader { offset: 0 }));
    huge[124..128].copy_from_slice(&[0x80, 0, 0, 0]);
    seal(&mut huge);
    let archive = Archive::read(&huge);
    assert!(matches!(archive.damage(), Some(Damage::CutShort { needs: u64::MAX, .. })));
}

proptest! {
    #[test]
    fn no_archive_makes_the_reader_panic(
        changes in prop::collection::vec((0_usize..4096, any::<u8>()), 0..20),
        length in 0_usize..5000,
        reseal in any::<bool>(),
    ) {
        let mut bytes = archive(&[
            entry_of_kind(b'x', "pax", "", b"12 path=abc\n"),
            entry("a", &[3; 700]),
            entry_of_kind(b'L', "long", "", b"name\0"),
            entry("b", b"y"),
        ]);
        for (offset, value) in changes {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte = value;
            }
        }
        if reseal {
            seal(&mut bytes);
        }
        bytes.truncate(length);
        let _ = Archive::read(&bytes);
    }
}
