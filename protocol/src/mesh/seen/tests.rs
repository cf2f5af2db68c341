use super::*;
use proptest::prelude::*;

const CONFIG: SeenConfig = SeenConfig {
    accepted_entries_max: 4,
    accepted_age_max: Duration::from_secs(20),
    refused_entries_max: 3,
    refused_age_max: Duration::from_secs(10),
    pending_entries_max: 3,
};

fn id(number: u32) -> Fingerprint {
    Fingerprint(u64::from(number))
}

fn cache() -> SeenCache {
    SeenCache::new(CONFIG, Stream::from_seed([7; 32]))
}

#[test]
fn endless_refused_messages_never_push_an_accepted_one_out() {
    let mut cache = cache();
    cache.accept(Time::ZERO, id(0));
    for number in 1..10_000 {
        let pending = cache.insert_pending(Time::ZERO, id(number));
        assert!(pending, "a settled validation leaves room for the next");
        if number % 2 == 0 { cache.reject(Time::ZERO, id(number)) } else { cache.ignore(Time::ZERO, id(number)) }
    }
    cache.check();
    assert_eq!(cache.peek(id(0)), Some(SeenState::Accepted));
    assert_eq!(cache.peek(id(9_999)), Some(SeenState::Ignored));
    assert_eq!(cache.peek(id(9_998)), Some(SeenState::Rejected));
    assert_eq!(cache.len(), 1 + CONFIG.refused_entries_max);
}

#[test]
fn nothing_pushes_out_a_message_under_validation() {
    let mut cache = cache();
    assert!((0..3).all(|number| cache.insert_pending(Time::ZERO, id(number))));
    assert!(!cache.insert_pending(Time::ZERO, id(3)), "a full table sheds the newcomer");
    for number in 10..100 {
        cache.reject(Time::ZERO, id(number));
        cache.accept(Time::ZERO, id(number + 100));
    }
    assert!((0..3).all(|number| cache.peek(id(number)) == Some(SeenState::Pending)));
    cache.forget(id(0));
    assert!(cache.insert_pending(Time::ZERO, id(3)));
    cache.expire(Time::from_secs(10));
    assert_eq!(cache.peek(id(1)), None, "without a verdict for so long it is forgotten");
    cache.check();
}

#[test]
fn remainders_are_those_of_division() {
    let largest = (1 + 3 * u128::from(u64::MAX >> 8)) * u128::from(PRIME - 1);
    let prime = u128::from(PRIME);
    for value in [0, 1, prime - 1, prime, prime + 1, 2 * prime - 1, 2 * prime, 1 << 61, 1 << 92, largest] {
        assert_eq!(u128::from(modulo_prime(value)), value % prime, "{value}");
    }
}

#[test]
fn the_words_of_an_id_are_its_bytes() {
    let mut bytes = [0; MESSAGE_ID_BYTES];
    bytes.iter_mut().zip(230_u8..).for_each(|(byte, value)| *byte = value);
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    assert_eq!(words_of(&MessageId(bytes)), [number(&bytes[..7]), number(&bytes[7..14]), number(&bytes[14..])]);
}

/// Ids that are multiples of one another are what a remote would choose against a hash without the added number: theirs would be
/// multiples too.
#[test]
fn fingerprints_of_multiples_are_no_multiples() {
    let of = |factor: u8| {
        let mut bytes = [0; MESSAGE_ID_BYTES];
        bytes[0] = factor;
        cache().fingerprint(&MessageId(bytes)).0
    };
    assert_ne!(of(0), 0);
    assert_ne!(u128::from(of(2)), u128::from(of(1)) * 2 % u128::from(PRIME));
}

#[test]
fn fingerprints_depend_on_the_id_and_on_the_key() {
    let [a, b] = [1, 2].map(|first| MessageId([first; 20]));
    assert_eq!(cache().fingerprint(&a), cache().fingerprint(&a));
    assert_ne!(cache().fingerprint(&a), cache().fingerprint(&b));
    assert_ne!(cache().fingerprint(&a), SeenCache::new(CONFIG, Stream::from_seed([8; 32])).fingerprint(&a));
}

#[test]
fn accepted_is_final() {
    let mut cache = cache();
    cache.accept(Time::ZERO, id(1));
    cache.reject(Time::ZERO, id(1));
    cache.ignore(Time::ZERO, id(1));
    cache.forget(id(1));
    assert!(!cache.insert_pending(Time::ZERO, id(1)));
    assert_eq!(cache.peek(id(1)), Some(SeenState::Accepted));
    cache.reject(Time::ZERO, id(2));
    cache.accept(Time::ZERO, id(2));
    assert_eq!((cache.peek(id(2)), cache.len()), (Some(SeenState::Accepted), 2));
}

#[test]
fn a_message_that_is_still_going_round_stays_known() {
    let mut cache = cache();
    cache.accept(Time::ZERO, id(1));
    cache.accept(Time::ZERO, id(2));
    cache.touch(Time::from_secs(19), id(1));
    cache.expire(Time::from_secs(20));
    assert_eq!((cache.peek(id(1)), cache.peek(id(2))), (Some(SeenState::Accepted), None));
    cache.expire(Time::from_secs(39));
    assert!(cache.is_empty());
}

#[test]
fn an_empty_cache_of_any_bound_allocates_nothing_for_it() {
    let config = SeenConfig { accepted_entries_max: usize::MAX, refused_entries_max: usize::MAX, ..CONFIG };
    let mut cache = SeenCache::new(config, Stream::from_seed([0; 32]));
    cache.accept(Time::MAX, id(1));
    cache.expire(Time::MAX);
    cache.check();
}

#[test]
fn bounds_of_zero_are_refused() {
    SeenConfig::default().validate().expect("the defaults are valid");
    let error = SeenConfig { refused_entries_max: 0, ..CONFIG }.validate().expect_err("no room");
    assert_eq!(error, SeenConfigError::NoEntries("refused_entries_max"));
    let error = SeenConfig { accepted_age_max: Duration::ZERO, ..CONFIG }.validate().expect_err("no time");
    assert_eq!(error, SeenConfigError::NoAge("accepted_age_max"));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pending(u32),
    Accept(u32),
    Reject(u32),
    Ignore(u32),
    Forget(u32),
    Touch(u32),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let message = 0_u32..12;
    prop_oneof![
        4 => message.clone().prop_map(Step::Pending),
        2 => message.clone().prop_map(Step::Accept),
        2 => message.clone().prop_map(Step::Reject),
        1 => message.clone().prop_map(Step::Ignore),
        1 => message.clone().prop_map(Step::Forget),
        2 => message.prop_map(Step::Touch),
        2 => (0_u64..8).prop_map(Step::Pass),
    ]
}

/// All that is known, in one list from the least to the most recently touched.
#[derive(Debug, Default)]
struct Model {
    known: Vec<(u32, SeenState, u64)>,
}

impl Model {
    fn state(&self, message: u32) -> Option<SeenState> {
        self.known.iter().find(|(other, ..)| *other == message).map(|(_, state, _)| *state)
    }

    fn segment_len(&self, segment: impl Fn(SeenState) -> bool) -> usize {
        self.known.iter().filter(|(_, state, _)| segment(*state)).count()
    }

    fn settle(&mut self, now_s: u64, message: u32, verdict: SeenState) {
        if self.state(message) == Some(SeenState::Accepted) && verdict != SeenState::Accepted {
            return;
        }
        self.known.retain(|(other, ..)| *other != message);
        self.known.push((message, verdict, now_s));
        let (same, most): (fn(SeenState) -> bool, usize) = match verdict {
            SeenState::Accepted => (|state| state == SeenState::Accepted, CONFIG.accepted_entries_max),
            _ => (is_refused, CONFIG.refused_entries_max),
        };
        if self.segment_len(same) > most {
            let oldest = self.known.iter().position(|(_, state, _)| same(*state)).expect("the segment is full");
            self.known.remove(oldest);
        }
    }
}

fn is_refused(state: SeenState) -> bool {
    matches!(state, SeenState::Rejected | SeenState::Ignored)
}

fn apply(step: Step, now_s: &mut u64, cache: &mut SeenCache, model: &mut Model) {
    let now = Time::from_secs(*now_s);
    match step {
        Step::Pending(message) => {
            let room = model.segment_len(|state| state == SeenState::Pending) < CONFIG.pending_entries_max;
            let expected = room && model.state(message).is_none();
            assert_eq!(cache.insert_pending(now, id(message)), expected);
            if expected {
                model.known.push((message, SeenState::Pending, *now_s));
            }
        }
        Step::Accept(message) => {
            cache.accept(now, id(message));
            model.settle(*now_s, message, SeenState::Accepted);
        }
        Step::Reject(message) => {
            cache.reject(now, id(message));
            model.settle(*now_s, message, SeenState::Rejected);
        }
        Step::Ignore(message) => {
            cache.ignore(now, id(message));
            model.settle(*now_s, message, SeenState::Ignored);
        }
        Step::Forget(message) => {
            cache.forget(id(message));
            model.known.retain(|(other, state, _)| *other != message || *state == SeenState::Accepted);
        }
        Step::Touch(message) => {
            cache.touch(now, id(message));
            if let Some(state) = model.state(message).filter(|state| *state != SeenState::Pending) {
                model.known.retain(|(other, ..)| *other != message);
                model.known.push((message, state, *now_s));
            }
        }
        Step::Pass(seconds) => {
            *now_s += seconds;
            cache.expire(Time::from_secs(*now_s));
            let age_max_s = |state| if state == SeenState::Accepted { 20 } else { 10 };
            model.known.retain(|(_, state, since_s)| since_s + age_max_s(*state) > *now_s);
        }
    }
}

proptest! {
    #[test]
    fn the_cache_agrees_with_the_naive_model(steps in prop::collection::vec(step(), 1..200)) {
        let (mut cache, mut model, mut now_s) = (cache(), Model::default(), 0);
        for step in steps {
            apply(step, &mut now_s, &mut cache, &mut model);
            cache.check();
            for message in 0..12 {
                prop_assert_eq!(cache.peek(id(message)), model.state(message));
            }
            prop_assert_eq!(cache.len(), model.known.len());
        }
    }
}
