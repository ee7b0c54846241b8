//! Runs the targets: on stable as property tests, with `--cfg fuzzing` under libFuzzer, one by its name.

#![allow(clippy::panic, reason = "a target reports by a panic")]

use aex_fuzz::targets::{answer, coding, config, control, export, http1, prices, request, stream};

macro_rules! target {
    ($($name:ident: $check:path,)*) => {$(
        #[test]
        fn $name() {
            #[cfg(fuzzing)]
            bolero::check!().for_each(|input: &[u8]| $check(input));
            #[cfg(not(fuzzing))]
            bolero::TestTarget::new(aex_fuzz::engine::Seeded::new(stringify!($name))).for_each(|input: &[u8]| $check(input));
        }
    )*};
}

target! {
    answer: answer::check,
    coding: coding::check,
    control: control::check,
    export: export::check,
    http1: http1::check,
    models: config::models,
    permissions: config::permissions,
    policy: config::policy,
    prices: prices::check,
    request: request::check,
    request_made: request::check_made,
    stream: stream::check,
    stream_made: stream::check_made,
    usage: answer::check_usage,
}
