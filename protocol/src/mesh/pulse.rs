//! Whether a peer that says nothing is gone: an accrual failure detector over everything that comes from it, which knows when
//! the fault is ours.
//!
//! A process that has no processor for seconds and goes on then says as little meanwhile as one that has crashed. A fixed timeout has
//! to be longer than the longest pause of the slowest peer, for all. An accrual detector (Hayashibara, Défago, Yared and
//! Katayama, "The phi accrual failure detector", SRDS 2004) weighs a silence against those that this peer has ended before. Others'
//! opinions do not count: in an open network accusations can be forged.
//!
//! # Rules
//!
//! - **Lived time.** Silence is not measured by the clock but in time in which new messages come: between two of them, of whomever,
//!   [`PulseConfig::step_max`] counts at most. *Rationale:* where nothing happens nobody has anything to say. A network that is
//!   quiet, a cable that was pulled and our own process that was stopped all look like that.
//! - Everything that comes from a peer ends its silence.
//! - **Being away.** A wake that comes late by more than [`PulseConfig::late_min`] says that we have not run (local health awareness of
//!   Lifeguard: Dadgar, Phillips, Currey, arXiv 1707.00788). What came meanwhile is still unread, so nobody is judged until
//!   [`PulseConfig::settle`] was lived through. If there were messages in the backlog, the time that we were away counts as silence of those
//!   of whom there was nothing: they had every chance. It never counts as a pause that a peer has ended.
//! - **Rhythm.** A silence of [`PulseConfig::pause_min`] or more that a peer has ended is a pause of its. Its longest one is remembered
//!   and fades: it counts for half after [`PulseConfig::fade`] of lived time. A peer may be silent for [`PulseConfig::pauses`]
//!   times as long. *Rationale:* accrual detectors take the tail of the arrivals' distribution to be exponential or normal. Arrivals of
//!   a mesh come in bursts, so means and variances over them say little about its pauses; the longest pause is a quantile
//!   of their distribution, and with an exponential tail a level of suspicion is a multiple of a quantile. It takes one word,
//!   and learns from a single pause.
//! - **Strangers.** At first nothing is known, so a silence as long as the longest that is allowed is bearable, [`PulseConfig::silence_max`]. That falls with the
//!   time for which the peer has been heard, to [`PulseConfig::silence_min`] after [`PulseConfig::familiar_after`].
//!
//! Who may not be silent for longer is a *suspect to be gone*. What follows is for the caller to decide ([`super::trial`]): it is replaced, not
//! punished.
//!
//! # Limits and cost
//!
//! Four words for each peer; whatever comes costs one subtraction, and a new message some more for the clock. Lived time is counted in
//! milliseconds of 32 bits, so a peer that is heard for the first time in 49 days of lived time seems to have paused for less. A peer whose
//! pauses are longer than [`PulseConfig::silence_max`] is suspected each time: it cannot be told from one that has crashed within the time in which a crash
//! is to be found.

use crate::memory::Fetch;
use crate::time::{Duration, Time, micros};

/// What is known of silences, and how much is borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PulseConfig {
    /// What counts at most of the time between two new messages.
    pub step_max: Duration,
    /// A wake that is late by more says that we were away.
    pub late_min: Duration,
    /// After we were away, time to be lived through before anybody is judged.
    pub settle: Duration,
    /// Shorter silences are no pauses.
    pub pause_min: Duration,
    /// What is borne of everybody.
    pub silence_min: Duration,
    /// What is borne of nobody.
    pub silence_max: Duration,
    /// After how long a peer that has not paused is known not to.
    pub familiar_after: Duration,
    /// How often its longest pause a peer may be silent.
    pub pauses: u32,
    /// After how long a pause counts for half.
    pub fade: Duration,
}

impl Default for PulseConfig {
    /// All are guesses but for the sum of the longest silence and the time in which a replacement is found, which is to stay within 5 s;
    /// they were not chosen for the lengths of particular pauses. With four times the longest pause, a level of suspicion
    /// of e^-4 for each pause of a peer whose pauses are exponential with that mean.
    fn default() -> Self {
        Self {
            step_max: Duration::from_millis(250),
            late_min: Duration::from_millis(100),
            settle: Duration::from_millis(100),
            pause_min: Duration::from_millis(250),
            silence_min: Duration::from_millis(1_500),
            silence_max: Duration::from_millis(4_500),
            familiar_after: Duration::from_secs(20),
            pauses: 4,
            fade: Duration::from_secs(30),
        }
    }
}

/// A moment in lived time, in milliseconds. It wraps around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lived(u32);

impl Lived {
    /// Milliseconds since an earlier moment.
    fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Whether this moment is later than the other one.
    pub(super) fn is_after(self, other: Self) -> bool {
        self != other && self.since(other) < u32::MAX / 2
    }
}

/// How a peer is heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rhythm {
    /// When it was heard first.
    since: Lived,
    /// Its longest pause when that ended, in milliseconds; none if zero.
    pause_ms: u32,
    paused_until: Lived,
}

/// A time in which we were away.
#[derive(Clone, Copy, Debug)]
struct Away {
    /// When we were back.
    until: Lived,
    /// For how long it counts as silence of others, in milliseconds.
    ms: u32,
}

/// How many times away are remembered, to be taken off the pauses of others.
const AWAY_MAX: usize = 4;

/// The clock of lived time, and the judge of silences.
#[derive(Debug)]
pub(super) struct Pulse {
    /// The last new message.
    at: Time,
    /// The last new message after which none came for long, and the next one.
    gap: (Time, Time),
    /// The last wake.
    woken: Time,
    /// How long we have lived.
    lived_us: u64,
    lived: Lived,
    pause_min_ms: u32,
    /// The last times away, the latest first.
    away: [Option<Away>; AWAY_MAX],
    /// When we were back, and what that is to count if something has come meanwhile, in microseconds.
    owed: Option<(Time, u64)>,
    config: PulseConfig,
}

impl Pulse {
    pub(super) fn new(config: PulseConfig, now: Time) -> Self {
        let pause_min_ms = u32::try_from(config.pause_min.as_millis()).unwrap_or(u32::MAX);
        let (away, lived) = ([None; AWAY_MAX], Lived::default());
        Self { at: now, gap: (now, now), woken: now, lived_us: 0, lived, pause_min_ms, away, owed: None, config }
    }

    /// Has fetched what every input looks at; see [`Fetch`].
    pub(super) fn fetch(&self, fetch: &mut impl Fetch) {
        fetch.value(&self.lived);
        fetch.value(&self.at);
    }

    /// The present moment in lived time.
    pub(super) fn lived(&self) -> Lived {
        self.lived
    }

    /// A new message has come, from whomever.
    pub(super) fn message(&mut self, now: Time) {
        let step = now.since(self.at);
        if step > self.config.late_min {
            self.gap = (self.at, now);
        }
        self.at = now;
        self.live(micros(step.min(self.config.step_max)));
        if let Some((back, away_us)) = self.owed.take()
            && now.since(back) <= self.config.settle
        {
            self.count_away(away_us);
        }
    }

    /// Whether a silence that ended is one that [`Self::note_pause`] is to be told of.
    pub(super) fn is_pause(&self, heard: Lived) -> bool {
        self.lived.since(heard) >= self.pause_min_ms
    }

    /// We woke, although that was due earlier.
    pub(super) fn woke(&mut self, now: Time, due: Time) {
        let last = core::mem::replace(&mut self.woken, now);
        if now.since(due) <= self.config.late_min {
            return;
        }
        self.away.rotate_right(1);
        self.away[0] = Some(Away { until: self.lived, ms: 0 });
        let away_us = |from: Time| micros(now.since(from).min(self.config.silence_max));
        if self.at <= due {
            self.owed = Some((now, away_us(self.at.max(last))));
        } else {
            // Something of the backlog was taken in before, which has counted for one step.
            let (from, until) = self.gap;
            let counted_us = micros(until.since(from).min(self.config.step_max));
            let from = if until > due { from.max(last) } else { due };
            self.count_away(away_us(from).saturating_sub(counted_us));
        }
    }

    /// Others could speak for so long while we were away.
    fn count_away(&mut self, us: u64) {
        self.live(us);
        self.away[0] = Some(Away { until: self.lived, ms: u32::try_from(us / 1_000).unwrap_or(u32::MAX) });
    }

    #[expect(clippy::cast_possible_truncation, reason = "it wraps around")]
    fn live(&mut self, us: u64) {
        self.lived_us += us;
        self.lived = Lived((self.lived_us / 1_000) as u32);
    }

    /// Whether we were away since then.
    pub(super) fn was_away(&self, since: Lived) -> bool {
        self.away[0].is_some_and(|away| !since.is_after(away.until))
    }

    /// Whether we have lived for long enough since we were away to judge others.
    pub(super) fn is_settled(&self) -> bool {
        self.away[0].is_none_or(|away| self.silence(away.until) >= self.config.settle)
    }

    /// A peer that was heard last at `heard` is heard again now. What we were away of that time is not its pause.
    #[cold]
    pub(super) fn note_pause(&self, rhythm: &mut Rhythm, heard: Lived) {
        let lived = self.lived;
        let away = self.away.iter().flatten().filter(|away| away.until.is_after(heard));
        let away_ms = away.fold(0_u32, |sum, away| sum.saturating_add(away.ms));
        let pause_ms = lived.since(heard).saturating_sub(away_ms);
        if pause_ms >= self.pause_min_ms && pause_ms >= self.pause(rhythm, lived) {
            (rhythm.pause_ms, rhythm.paused_until) = (pause_ms, lived);
        }
    }

    /// What the longest pause still counts for, in milliseconds.
    fn pause(&self, rhythm: &Rhythm, at: Lived) -> u32 {
        let fade_ms = u64::try_from(self.config.fade.as_millis()).unwrap_or(u64::MAX).max(1);
        let age_ms = u64::from(at.since(rhythm.paused_until));
        let left = u64::from(rhythm.pause_ms).saturating_mul(fade_ms) / fade_ms.saturating_add(age_ms);
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// For how long a peer has been silent that was heard last at `heard`.
    pub(super) fn silence(&self, heard: Lived) -> Duration {
        Duration::from_millis(u64::from(self.lived.since(heard)))
    }

    /// How long a silence of the peer is borne, where it was heard last at `heard`.
    pub(super) fn bearable(&self, rhythm: &Rhythm, heard: Lived) -> Duration {
        let config = &self.config;
        let usual = Duration::from_millis(u64::from(self.pause(rhythm, heard))).saturating_mul(config.pauses);
        let known = Duration::from_millis(u64::from(heard.since(rhythm.since))).min(config.familiar_after);
        let strange = config.familiar_after.saturating_sub(known);
        let range_us = micros(config.silence_max.saturating_sub(config.silence_min));
        let more_us = range_us.saturating_mul(micros(strange)) / micros(config.familiar_after).max(1);
        let unknown = config.silence_min + Duration::from_micros(more_us);
        usual.max(unknown).min(config.silence_max)
    }
}

impl Rhythm {
    /// That of a peer that is heard for the first time.
    pub(super) fn new(lived: Lived) -> Self {
        Self { since: lived, pause_ms: 0, paused_until: lived }
    }
}

#[cfg(test)]
mod tests;
