use super::*;
use crate::random::Streams;

const MESSAGES: Duration = Duration::from_millis(50);

/// A clock, and a peer that is heard at will.
struct Bench {
    pulse: Pulse,
    now: Time,
    heard: Lived,
    rhythm: Rhythm,
}

/// Long enough to be known.
const FAMILIAR: Duration = Duration::from_secs(24);

impl Bench {
    fn new() -> Self {
        let pulse = Pulse::new(PulseConfig::default(), Time::ZERO);
        Self { pulse, now: Time::ZERO, heard: Lived::default(), rhythm: Rhythm::new(Lived::default()) }
    }

    fn hear(&mut self) {
        let heard = core::mem::replace(&mut self.heard, self.pulse.lived());
        if self.pulse.is_pause(heard) {
            self.pulse.note_pause(&mut self.rhythm, heard);
        }
    }

    /// Messages come regularly, of others, and at each of them the peer speaks or not.
    fn messages(&mut self, duration: Duration, speaks: bool) {
        let end = self.now + duration;
        while self.now < end {
            self.now = self.now + MESSAGES;
            self.pulse.message(self.now);
            if speaks {
                self.hear();
            }
        }
    }

    /// We are away for so long since the last message, and were to wake after a quarter of that.
    fn away(&mut self, duration: Duration) {
        let due = self.now + duration / 4;
        self.now = self.now + duration;
        self.pulse.woke(self.now, due);
    }

    /// A message comes, in which the peer does not speak.
    fn message_after(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        self.pulse.message(self.now);
    }

    fn silence_ms(&self) -> u128 {
        self.pulse.silence(self.heard).as_millis()
    }

    fn bearable_ms(&self) -> u128 {
        self.pulse.bearable(&self.rhythm, self.heard).as_millis()
    }
}

#[test]
fn a_stranger_is_borne_for_longer_than_who_was_heard_for_long() {
    let mut bench = Bench::new();
    assert_eq!(bench.bearable_ms(), 4_500);
    bench.messages(Duration::from_secs(10), true);
    assert_eq!(bench.bearable_ms(), 3_000);
    bench.messages(Duration::from_secs(14), true);
    assert_eq!(bench.bearable_ms(), 1_500);
    // What it does not say makes it no better known.
    bench.messages(Duration::from_secs(7), false);
    assert_eq!((bench.silence_ms(), bench.bearable_ms()), (7_000, 1_500));
}

#[test]
fn who_has_paused_may_pause_again_and_it_is_forgotten_slowly() {
    let mut bench = Bench::new();
    bench.messages(FAMILIAR, true);
    bench.messages(Duration::from_millis(950), false);
    bench.messages(MESSAGES, true);
    assert_eq!(bench.bearable_ms(), 4_000);
    // A shorter one changes nothing.
    bench.messages(Duration::from_millis(450), false);
    bench.messages(MESSAGES, true);
    assert!((3_900..4_000).contains(&bench.bearable_ms()), "{}", bench.bearable_ms());
    bench.messages(Duration::from_millis(29_500), true);
    assert_eq!(bench.bearable_ms(), 2_000, "it counts for half");
    bench.messages(Duration::from_millis(2_950), false);
    bench.messages(MESSAGES, true);
    assert_eq!(bench.bearable_ms(), 4_500, "nobody is borne for longer");
}

#[test]
fn where_nothing_happens_time_stands_still() {
    let mut bench = Bench::new();
    bench.hear();
    for _ in 0..8 {
        bench.now = bench.now + Duration::from_secs(3_600);
        bench.pulse.message(bench.now);
    }
    assert_eq!(bench.silence_ms(), 2_000, "a quarter of a second for each message");
}

#[test]
fn who_was_away_reads_first_and_counts_its_absence_then() {
    let mut bench = Bench::new();
    bench.messages(FAMILIAR, true);
    let began = bench.pulse.lived();
    assert!(bench.pulse.is_settled() && !bench.pulse.was_away(began));
    let due = bench.now + Duration::from_millis(500);
    bench.now = bench.now + Duration::from_secs(2);
    bench.pulse.woke(bench.now, due);
    assert!(bench.pulse.was_away(began) && !bench.pulse.is_settled());
    bench.messages(MESSAGES, false);
    // Since the last message; the message that came then has a step of its own.
    assert_eq!(bench.silence_ms(), 2_050 + 200);
    assert!(!bench.pulse.is_settled(), "nothing but the first message was read");
    bench.messages(Duration::from_millis(100), false);
    assert!(bench.pulse.is_settled());
    // It is heard again: its pause was shorter than our absence, and none of it is known to be its own.
    bench.messages(MESSAGES, true);
    assert_eq!(bench.bearable_ms(), 4 * 400);
}

#[test]
fn an_absence_in_which_nothing_came_is_nobodys_silence() {
    let mut bench = Bench::new();
    bench.messages(FAMILIAR, true);
    let due = bench.now + Duration::from_millis(500);
    bench.now = bench.now + Duration::from_secs(100);
    bench.pulse.woke(bench.now, due);
    bench.now = bench.now + Duration::from_secs(1);
    bench.pulse.message(bench.now);
    assert_eq!(bench.silence_ms(), 250);
}

#[test]
fn a_backlog_that_was_read_before_the_wake_counts_likewise() {
    let mut bench = Bench::new();
    bench.messages(FAMILIAR, true);
    let due = bench.now + Duration::from_millis(500);
    bench.now = bench.now + Duration::from_secs(2);
    bench.pulse.message(bench.now);
    assert_eq!(bench.silence_ms(), 250);
    bench.pulse.woke(bench.now, due);
    assert_eq!(bench.silence_ms(), 2_000);
    assert!(!bench.pulse.is_settled());
}

#[test]
fn it_counts_with_the_first_message_that_comes_soon_after() {
    for (after_ms, silence_ms) in [(100, 2_250), (101, 250)] {
        let mut bench = Bench::new();
        bench.messages(FAMILIAR, true);
        bench.away(Duration::from_secs(2));
        bench.message_after(after_ms);
        assert_eq!(bench.silence_ms(), silence_ms, "after {after_ms} ms");
    }
}

#[test]
fn a_wake_that_is_a_little_late_is_no_absence() {
    for (late_ms, away) in [(100, false), (101, true)] {
        let mut bench = Bench::new();
        bench.messages(FAMILIAR, true);
        bench.now = bench.now + Duration::from_millis(late_ms);
        bench.pulse.woke(bench.now, Time::ZERO + FAMILIAR);
        assert_eq!(bench.pulse.was_away(bench.heard), away, "{late_ms} ms");
    }
}

/// A wake in time says that we were there until then.
#[test]
fn an_absence_begins_with_the_last_wake() {
    for read_before in [false, true] {
        let mut bench = Bench::new();
        bench.messages(FAMILIAR, true);
        bench.now = bench.now + Duration::from_secs(1);
        bench.pulse.woke(bench.now, bench.now);
        let due = bench.now + Duration::from_millis(500);
        bench.now = bench.now + Duration::from_secs(2);
        if read_before {
            bench.pulse.message(bench.now);
        }
        bench.pulse.woke(bench.now, due);
        if !read_before {
            bench.pulse.message(bench.now);
        }
        // A message that was read before is a step of the absence, and one after it a step of its own.
        assert_eq!(bench.silence_ms(), if read_before { 2_000 } else { 2_250 });
    }
}

#[test]
fn a_backlog_of_many_messages_counts_once_whenever_it_is_read() {
    let mut bench = Bench::new();
    bench.messages(FAMILIAR, true);
    let due = bench.now + Duration::from_millis(500);
    bench.now = bench.now + Duration::from_secs(2);
    for _ in 0..5 {
        bench.pulse.message(bench.now);
        bench.now = bench.now + Duration::from_millis(1);
    }
    bench.pulse.woke(bench.now, due);
    assert_eq!(bench.silence_ms(), 2_009);
}

#[test]
fn where_messages_were_read_all_the_time_an_absence_begins_when_the_wake_was_due() {
    let mut bench = Bench::new();
    bench.messages(FAMILIAR, true);
    let due = bench.now + Duration::from_millis(500);
    bench.messages(Duration::from_secs(1), false);
    bench.pulse.woke(bench.now, due);
    assert_eq!(bench.silence_ms(), 1_500);
}

#[test]
fn an_absence_that_begins_with_a_message_is_owed_likewise() {
    let mut bench = Bench::new();
    bench.messages(FAMILIAR, true);
    let due = bench.now;
    bench.now = bench.now + Duration::from_secs(2);
    bench.pulse.woke(bench.now, due);
    assert_eq!(bench.silence_ms(), 0, "nothing has come yet");
    bench.pulse.message(bench.now);
    assert_eq!(bench.silence_ms(), 2_250);
}

#[test]
fn an_absence_counts_for_no_more_than_is_borne() {
    let mut bench = Bench::new();
    bench.messages(FAMILIAR, true);
    bench.away(Duration::from_secs(100));
    bench.message_after(1);
    assert_eq!(bench.silence_ms(), 4_500 + 250);
}

#[test]
fn all_absences_of_a_silence_are_taken_off_the_pause_and_those_before_are_not() {
    let mut bench = Bench::new();
    bench.messages(FAMILIAR, true);
    for _ in 0..2 {
        bench.away(Duration::from_secs(2));
        bench.message_after(1);
    }
    assert_eq!(bench.silence_ms(), 4_500);
    bench.hear();
    assert_eq!(bench.bearable_ms(), 4 * 500);

    let mut bench = Bench::new();
    bench.messages(FAMILIAR, true);
    bench.away(Duration::from_secs(2));
    bench.message_after(1);
    bench.hear();
    assert_eq!(bench.bearable_ms(), 1_500);
    bench.messages(Duration::from_millis(750), false);
    bench.hear();
    assert_eq!(bench.bearable_ms(), 4 * 750, "we were there all the time");
}

#[test]
fn what_is_borne_does_not_fade_while_the_peer_is_silent() {
    let mut bench = Bench::new();
    bench.messages(FAMILIAR, true);
    bench.messages(Duration::from_millis(950), false);
    bench.messages(MESSAGES, true);
    bench.messages(Duration::from_secs(3), false);
    assert_eq!(bench.bearable_ms(), 4_000);
}

#[test]
fn moments_are_in_order_where_time_wraps_around() {
    let (before, after) = (Lived(u32::MAX - 5), Lived(5));
    assert!(after.is_after(before) && !before.is_after(after) && !after.is_after(after));
}

#[test]
fn lived_time_may_wrap_around() {
    let mut bench = Bench::new();
    bench.pulse.live(u64::from(u32::MAX - 5_000) * 1_000);
    bench.hear();
    bench.rhythm = Rhythm::new(bench.heard);
    bench.messages(FAMILIAR, true);
    assert_eq!((bench.silence_ms(), bench.bearable_ms()), (0, 1_500));
    bench.messages(Duration::from_secs(2), false);
    assert_eq!(bench.silence_ms(), 2_000);
}

/// Against a model that remembers everything: all pauses with their ends.
#[test]
fn what_is_borne_is_what_a_model_bears_that_remembers_all_pauses() {
    let mut random = Streams::new([7; 32]).stream("pulse");
    for _ in 0..50 {
        let mut bench = Bench::new();
        let mut pauses: Vec<(u64, u64)> = Vec::new();
        let (mut lived_ms, mut heard_ms) = (0_u64, 0_u64);
        for _ in 0..400 {
            let most_ms = if random.chance(1, 10) { 1_000 } else { 60 };
            let step_ms = 1 + random.below(most_ms);
            bench.now = bench.now + Duration::from_millis(step_ms);
            bench.pulse.message(bench.now);
            lived_ms += step_ms.min(250);
            if random.chance(1, 4) {
                bench.hear();
                if lived_ms - heard_ms >= 250 {
                    pauses.push((lived_ms, lived_ms - heard_ms));
                }
                heard_ms = lived_ms;
            }
            let fading = |(end, pause): &(u64, u64)| pause * 30_000 / (30_000 + (heard_ms - end));
            let usual = 4 * pauses.iter().map(fading).max().unwrap_or(0);
            let unknown = 1_500 + (20_000_u64.saturating_sub(heard_ms)) * 3 / 20;
            let model = usual.max(unknown).min(4_500);
            // The longest pause is not always the one that counts most later: an older one fades more slowly.
            let found = u64::try_from(bench.bearable_ms()).expect("a few seconds");
            assert!(found <= model && found * 20 >= model * 17, "{found} ms, and the model {model} ms");
            assert_eq!(bench.silence_ms(), u128::from(lived_ms - heard_ms));
        }
    }
}
