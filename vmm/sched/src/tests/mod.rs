//! The scheduler as a whole: on simulated machines, by threads, and by random calls.
#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "simulated numbers are small")]

mod caps;
mod crowds;
mod delays;
mod exclusive;
mod load;
mod machine;
mod random_calls;
mod shares;
mod single_steps;
mod threads;
