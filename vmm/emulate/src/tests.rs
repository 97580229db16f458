//! Behaviour of whole instructions, from bytes to effects.

mod arithmetic;
mod bits;
mod branches;
mod breakpoints;
mod fetching;
mod integers;
mod modes;
mod moves;
mod properties;
mod recall;
mod stack;
mod strings;
mod vectors;
