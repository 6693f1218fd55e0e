//! `blkio_config`: shares and limits of block device traffic.

use serde::Serialize;

/// Shares and limits of block device traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Blkio {
    /// Share of the traffic, 10 to 1000; 0 is the engine's default.
    pub weight: u16,
    /// The same for single devices.
    pub weight_device: Vec<DeviceWeight>,
    /// Bytes a second read.
    pub read_bps: Vec<DeviceRate>,
    /// Bytes a second written.
    pub write_bps: Vec<DeviceRate>,
    /// Reads a second.
    pub read_iops: Vec<DeviceRate>,
    /// Writes a second.
    pub write_iops: Vec<DeviceRate>,
}

/// A share for one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DeviceWeight {
    /// Path on the host.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A limit for one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DeviceRate {
    /// Path on the host.
    pub path: String,
    /// Bytes or operations a second.
    pub rate: i64,
}
