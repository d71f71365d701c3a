//! Traffic through whole proxies while everything around them changes, breaks or misbehaves.
//!
//! Each module proves one promise over real sockets on the loopback interface. In-process proxies
//! where the test looks inside, the binary `weir` as a child where memory or an exit status counts.
//!
//! | module | promise |
//! |---|---|
//! | `at_rest` | a proxy that does nothing holds little memory |
//! | `bad_peer` | a control plane, or a client of one, that talks nonsense does no harm |
//! | `bad_request` | nothing of a malformed request reaches an origin |
//! | `bad_resource` | a mistake is told with its place; what was good keeps serving |
//! | `balance` | a slow host is spared while another is idle |
//! | `breakers` | limits of a cluster are exact, and all who may wait are served |
//! | `chain_update` | a changed filter chain drains its own connections only |
//! | `descriptors` | without descriptors it waits, and serves again |
//! | `check` | kinds of mistakes have codes |
//! | `departure` | a host that leaves gets nothing new, and time to finish what it has |
//! | `drain` | SIGTERM loses no request |
//! | `drain_load` | nor does it under load |
//! | `first_bytes` | slow, broken and huge ClientHellos are refused; TLS passes through by its name |
//! | `full_disk` | what cannot be kept is served, and kept once there is room |
//! | `handshakes` | however a ClientHello is cut its client is served; nonsense is refused |
//! | `kept_state` | what gets on the disk, what does not, and what is said of it |
//! | `last_good` | without its control plane a proxy starts from disk, and says so |
//! | `latency` | weights leave a host in trouble and return |
//! | `latency_calls` | the same for gRPC |
//! | `latency_spared` | a host that asks to be left alone is, and not for longer than is allowed |
//! | `leaving` | and each kind of connection ends as it should, as soon as it should |
//! | `live_switch` | a control plane changes policies under load, and lets one look on |
//! | `limits` | one connection too many is refused at once |
//! | `memory_limit` | 64 MiB are enough: what is too much is shed in order |
//! | `misdirected` | a request for another host than its connection's is answered with 421 |
//! | `outcomes` | a cluster that is slow or fails is spared, and tried until it is well |
//! | `overload` | who runs short of something refuses what it is told to, and says so |
//! | `pairs` | bodies stream through all four HTTP pairs, exactly and in bounded memory |
//! | `policy_switch` | another balancing policy changes who is chosen and nothing else |
//! | `proxies` | the client's address passes through HAProxy, Weir and nginx |
//! | `redirect` | what netfilter redirects gets where it wanted |
//! | `reload` | SIGHUP makes what stands in the bootstrap live, or leaves all as it is |
//! | `restart` | the control plane may go and come back |
//! | `slow` | who says almost nothing is let go at a deadline, and costs nothing |
//! | `spread` | workers have equally many connections where they are to |
//! | `stuck` | a worker that does not answer is told of |
//! | `tcp` | any stream passes exactly, mostly without copies, and leaves nothing behind |
//! | `tear` | no push, in any order, fails a request |

mod at_rest;
mod bad_peer;
mod bad_request;
mod bad_resource;
mod balance;
mod breakers;
mod chain_update;
mod check;
mod departure;
mod descriptors;
mod drain;
mod drain_load;
mod first_bytes;
mod full_disk;
mod handshakes;
mod kept_state;
mod last_good;
mod latency;
mod latency_calls;
mod latency_spared;
mod leaving;
mod limits;
mod live_switch;
mod memory_limit;
mod misdirected;
mod outcomes;
mod overload;
mod pairs;
mod policy_switch;
mod proxies;
mod redirect;
mod reload;
mod restart;
mod slow;
mod spread;
mod stuck;
mod support;
mod tcp;
mod tear;
