//! The database's file and the room beside it, looked at whenever the scraper asks. What the system does not tell is left out.

use crate::storage::{disk_bytes, free_bytes};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::path::{Path, PathBuf};

pub(super) fn register(registry: &mut Registry, database: &Path) {
    let disk = Disk { database: database.to_owned() };
    registry.sub_registry_with_prefix("starling_storage").register_collector(Box::new(disk));
}

#[derive(Debug)]
struct Disk {
    database: PathBuf,
}

impl Collector for Disk {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name, help, bytes: Option<u64>| match bytes {
            None => Ok(()),
            Some(bytes) => {
                let metric = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
                metric.encode(encoder.encode_descriptor(name, help, Some(&Unit::Bytes), metric.metric_type())?)
            }
        };
        gauge("database", "What the database's file takes on the disk", disk_bytes(&self.database))?;
        gauge("free", "Free space on the database's file system", free_bytes(&self.database))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_file_and_the_room_beside_it_are_measured() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = dir.path().join("db");
        let mut registry = Registry::default();
        register(&mut registry, &database);
        let encoded = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
            text
        };
        assert!(!encoded().contains("starling_storage_database_bytes "), "{}", encoded());
        assert!(encoded().contains("starling_storage_free_bytes "), "{}", encoded());
        // A file system hands out blocks of 4 KiB or so; what a file was only lengthened by takes nothing.
        let file = std::fs::File::create(&database).expect("made");
        (&file).write_all(&[7; 8_192]).expect("written");
        file.set_len(1 << 30).expect("lengthened");
        file.sync_all().expect("flushed");
        let shown = encoded();
        let bytes = shown.lines().find_map(|line| line.strip_prefix("starling_storage_database_bytes "));
        let bytes: u64 = bytes.and_then(|bytes| bytes.parse().ok()).expect(&shown);
        assert!((8_192..1 << 20).contains(&bytes), "{bytes}");
    }
}
