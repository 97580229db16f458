//! The ports of the firmware configuration device.

use super::{Pc, Timer};
use crate::lanes::low_half;
use arch::platform_layout::{FW_CFG, FW_CFG_BYTES};
use arch::{Nanos, Width};

const SELECTOR: u16 = FW_CFG.0;
const DATA: u16 = SELECTOR + 1;
const DMA: u16 = SELECTOR + 4;
const DMA_LAST: u16 = SELECTOR + FW_CFG_BYTES as u16 - 1;

impl Pc {
    /// Reads one of the ports; without the device, and where it cannot be read, all ones.
    #[cold]
    pub(super) fn read_fw_cfg(&mut self, port: u16) -> u8 {
        match (&mut self.fw_cfg, port) {
            (Some(fw_cfg), DATA) => fw_cfg.read_data(),
            (Some(fw_cfg), DMA..=DMA_LAST) => fw_cfg.read_dma(port - DMA),
            _ => 0xff,
        }
    }

    /// Writes 2 or 4 bytes that lie within a register of 4. Single bytes have no meaning here.
    #[cold]
    pub(super) fn write_fw_cfg(&mut self, port: u16, width: Width, value: u32, now: Nanos) {
        let Some(fw_cfg) = &mut self.fw_cfg else { return };
        match (port, width) {
            (SELECTOR, Width::Two) => fw_cfg.select(low_half(value)),
            (DMA..=DMA_LAST, _) => {
                fw_cfg.write_dma(port - DMA, width, value, now);
                self.touched(Timer::FwCfg);
            }
            _ => {}
        }
    }

    pub(super) fn advance_fw_cfg(&mut self, now: Nanos) {
        if let Some(fw_cfg) = &mut self.fw_cfg {
            fw_cfg.advance(now);
        }
    }
}
