//! Secrets by name: our control plane, files and bootstraps serve them, Envoy and Weir use them.
//!
//! | file | holds |
//! |---|---|
//! | `alone` | certificates grow old while the control plane is away |
//! | `authority` | roots, and leaves as secrets |
//! | `certs` | `/certs` of both proxies |
//! | `caller` | one TLS connection, and whose certificate it saw |
//! | `checked` | members that are asked on a connection that is kept |
//! | `site` | bootstraps, listeners and clusters that name secrets |
//! | `replaced` | idle connections when we show another certificate |
//! | `peers` | connections and sessions whose trust is withdrawn |
//! | `rotated` | a leaf is replaced under load |
//! | `overlap` | leaf after leaf and another root, under load of mutual TLS |
//! | `missing` | a secret that is not there, or no good |
//! | `ended` | what still runs when a certificate ends |
//! | `files` | one bootstrap with files, two proxies, the same certificates |
//! | `mutual` | Envoy and Weir verify each other while their root is replaced |

mod alone;
mod authority;
mod caller;
mod certs;
mod checked;
mod ended;
mod files;
mod missing;
mod mutual;
mod overlap;
mod peers;
mod replaced;
mod rotated;
mod site;
