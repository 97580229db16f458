//! Debian's cloud kernel, unmodified: as packaged, and the ELF file inside it.
//!
//! Sources: The Linux Kernel documentation, "The Linux/x86 Boot Protocol" (setup header); "LZ4 Frame format
//! description", "Legacy frame".

use anyhow::{Context, Result, bail};

use super::packaged;

/// Sectors of setup code, when the header says 0.
const DEFAULT_SETUP_SECTORS: usize = 4;
/// Setup header: number of setup sectors (1 byte).
const SETUP_SECTORS: usize = 0x1f1;
/// Setup header: the magic "HdrS".
const MAGIC: usize = 0x202;
/// Setup header: offset of the compressed payload from the protected-mode code (4 bytes).
const PAYLOAD_OFFSET: usize = 0x248;
/// Setup header: length of the payload (4 bytes), which ends with the uncompressed length.
const PAYLOAD_LENGTH: usize = 0x24c;
/// A sector, in bytes.
const SECTOR: usize = 512;
/// Magic of a legacy LZ4 frame.
const LZ4_LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// A legacy frame's blocks hold this many bytes once unpacked, the last one fewer.
const LZ4_LEGACY_BLOCK: usize = 8 << 20;

/// The bzImage, as packaged.
pub(super) fn compressed() -> Result<Vec<u8>> {
    packaged::CLOUD_KERNEL.content()
}

/// The ELF file `vmlinux` out of the bzImage.
pub(super) fn uncompressed() -> Result<Vec<u8>> {
    extract(&compressed()?)
}

/// Unpacks the payload of a bzImage.
fn extract(image: &[u8]) -> Result<Vec<u8>> {
    if image.get(MAGIC..MAGIC + 4) != Some(b"HdrS") {
        bail!("not a bzImage");
    }
    let setup = match usize::from(image[SETUP_SECTORS]) {
        0 => DEFAULT_SETUP_SECTORS,
        sectors => sectors,
    };
    let start = (setup + 1) * SECTOR + word(image, PAYLOAD_OFFSET)?;
    let payload = image.get(start..).and_then(|rest| rest.get(..word(image, PAYLOAD_LENGTH).ok()?));
    let payload = payload.context("the bzImage is cut short")?;
    let Some(frame) = payload.strip_prefix(&LZ4_LEGACY) else {
        bail!("the kernel is compressed by something else than LZ4, which this command does not unpack");
    };
    let size = word(frame, frame.len().saturating_sub(4))?;
    let vmlinux = unpack_legacy_lz4(&frame[..frame.len() - 4], size)?;
    if !vmlinux.starts_with(b"\x7fELF") {
        bail!("the bzImage's payload is no ELF file");
    }
    Ok(vmlinux)
}

fn unpack_legacy_lz4(mut blocks: &[u8], size: usize) -> Result<Vec<u8>> {
    let mut unpacked = Vec::with_capacity(size);
    while unpacked.len() < size {
        let length = word(blocks, 0)?;
        let block =
            blocks.get(4..).and_then(|rest| rest.get(..length)).context("an LZ4 block is cut short")?;
        let expected = LZ4_LEGACY_BLOCK.min(size - unpacked.len());
        unpacked.extend(lz4_flex::block::decompress(block, expected)?);
        blocks = &blocks[4 + length..];
    }
    Ok(unpacked)
}

fn word(bytes: &[u8], offset: usize) -> Result<usize> {
    let bytes = bytes.get(offset..).and_then(|rest| rest.first_chunk::<4>()).context("cut short")?;
    Ok(usize::try_from(u32::from_le_bytes(*bytes))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * SECTOR];
        image[SETUP_SECTORS] = 1;
        image[MAGIC..][..4].copy_from_slice(b"HdrS");
        image[PAYLOAD_OFFSET..][..4].copy_from_slice(&16u32.to_le_bytes());
        let length = u32::try_from(payload.len()).expect("small");
        image[PAYLOAD_LENGTH..][..4].copy_from_slice(&length.to_le_bytes());
        image.extend([0; 16]);
        image.extend(payload);
        image
    }

    fn legacy_frame(content: &[u8]) -> Vec<u8> {
        let mut frame = LZ4_LEGACY.to_vec();
        for block in content.chunks(LZ4_LEGACY_BLOCK) {
            let packed = lz4_flex::block::compress(block);
            frame.extend(u32::try_from(packed.len()).expect("small").to_le_bytes());
            frame.extend(packed);
        }
        frame.extend(u32::try_from(content.len()).expect("small").to_le_bytes());
        frame
    }

    #[test]
    fn payload_of_several_blocks_is_unpacked() {
        let mut elf = b"\x7fELF".to_vec();
        elf.resize(LZ4_LEGACY_BLOCK + 1000, 7);
        assert_eq!(extract(&bzimage(&legacy_frame(&elf))).expect("unpacks"), elf);
    }

    #[test]
    fn other_content_is_refused_by_name() {
        let error = |image: &[u8]| extract(image).expect_err("refused").to_string();
        assert!(error(&[0; 2000]).contains("not a bzImage"));
        assert!(error(&bzimage(b"\x1f\x8b........")).contains("something else than LZ4"));
        assert!(error(&bzimage(&legacy_frame(b"text"))).contains("no ELF"));
        let whole = bzimage(&legacy_frame(b"\x7fELF"));
        assert!(error(&whole[..whole.len() - 1]).contains("cut short"));
    }
}
