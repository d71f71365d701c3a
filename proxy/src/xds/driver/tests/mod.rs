//! The whole client against scripted control planes on loopback sockets.

mod hostile;
mod joined;
mod moved;
mod rig;
mod scripted;
mod secrets;
