//! How metrics are made and registered: alone, or as a family whose label values are all known beforehand.

use crate::api::MessageClass;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};
use std::ops::Index;
use std::sync::atomic::Ordering;

/// Labels whose names and values both come from this program.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// What a metric is called (without prefix, unit and `_total`), what it means, and its unit.
pub(super) struct Description {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
}

/// A metric without a unit, or whose unit is in its name.
pub(super) fn of(name: &'static str, help: &'static str) -> Description {
    Description { name, help, unit: None }
}

/// A metric in seconds.
pub(super) fn seconds(name: &'static str, help: &'static str) -> Description {
    Description { name, help, unit: Some(Unit::Seconds) }
}

/// A metric in bytes.
pub(super) fn bytes(name: &'static str, help: &'static str) -> Description {
    Description { name, help, unit: Some(Unit::Bytes) }
}

impl Description {
    fn register(self, own: &mut Registry, metric: impl Metric) {
        match self.unit {
            Some(unit) => own.register_with_unit(self.name, self.help, unit, metric),
            None => own.register(self.name, self.help, metric),
        }
    }

    /// A single metric.
    pub(super) fn single<M: Metric + Clone + Default>(self, own: &mut Registry) -> M {
        self.histogram(own, M::default())
    }

    /// A single metric that was made already, such as a histogram with its buckets.
    pub(super) fn histogram<M: Metric + Clone>(self, own: &mut Registry, metric: M) -> M {
        self.register(own, metric.clone());
        metric
    }

    /// A series for each of these sets of labels; the handles in their order.
    pub(super) fn family<M: Metric + TypedMetric + Clone, const N: usize, const SERIES: usize>(
        self,
        own: &mut Registry,
        series: [Labels<N>; SERIES],
        make: fn() -> M,
    ) -> [M; SERIES] {
        let family = Family::<Labels<N>, M, fn() -> M>::new_with_constructor(make);
        let handles = series.map(|labels| family.get_or_create_owned(&labels));
        self.register(own, family);
        handles
    }

    /// A series for each value of one label; the handles in their order.
    pub(super) fn by<M: Metric + TypedMetric + Clone + Default, const SERIES: usize>(
        self,
        own: &mut Registry,
        label: &'static str,
        values: [&'static str; SERIES],
    ) -> [M; SERIES] {
        self.family(own, values.map(|value| [(label, value)]), M::default)
    }

    /// A series for each class of messages.
    pub(super) fn by_class<M: Metric + TypedMetric + Clone + Default>(self, own: &mut Registry) -> ByClass<M> {
        self.by_class_from(own, M::default)
    }

    /// A series for each class of messages, made by a function.
    pub(super) fn by_class_from<M: Metric + TypedMetric + Clone>(
        self,
        own: &mut Registry,
        make: fn() -> M,
    ) -> ByClass<M> {
        ByClass(self.family(own, MessageClass::ALL.map(|class| [("class", class.name())]), make))
    }
}

/// A handle for each class of messages.
#[derive(Clone, Debug)]
pub struct ByClass<M>([M; MessageClass::ALL.len()]);

impl<M> Index<MessageClass> for ByClass<M> {
    type Output = M;
    fn index(&self, class: MessageClass) -> &M {
        &self.0[class as usize]
    }
}

/// Brings a counter up to a total that is counted elsewhere.
pub(super) fn raise(counter: &Counter, total: u64) {
    // A total that fell would look like a restart of the process to Prometheus.
    counter.inner().fetch_max(total, Ordering::Relaxed);
}

/// A gauge's value for a count.
pub(super) fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Buckets from 20 µs to 2.6 s: validation takes 50 µs when idle and seconds when drowning, and a loop that is late by 5 ms is
/// saturated.
pub(super) fn latency_histogram() -> Histogram {
    Histogram::new(exponential_buckets(20e-6, 2.0, 18))
}
