//! Breadth first through every state that a model can reach. The shortest way to a broken promise is found first.
//!
//! Written here and not taken from a crate: `stateright` brings an HTTP server, which `deny.toml` refuses, and it cannot
//! ask whether an end stays within reach of every state, only whether each way without a circle ends well.

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::{Hash, Hasher as _};

/// States that a run may reach before it is given up.
const STATES_MAX: usize = 8_000_000;

/// States and what leads from one to the next.
pub trait Model {
    type State: Clone + Hash;
    type Action: Copy + Debug;

    fn start(&self) -> Self::State;

    /// Adds every action that may happen now, with the state after it.
    fn next(&self, state: &Self::State, next: &mut Vec<(Self::Action, Self::State)>);

    /// Returns the promise that a state breaks, if it breaks one.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;

    /// Returns whether the cable has come to an end, or is reported.
    fn is_end(&self, state: &Self::State) -> bool;

    /// Returns whether an action happens by itself, without anybody's help and without a further fault.
    fn is_by_itself(&self, action: Self::Action) -> bool;
}

/// What an exploration saw.
#[derive(Debug)]
pub struct Explored {
    pub states: usize,
    pub steps: usize,
    pub depth: usize,
    /// The first broken promise, and the shortest way to it.
    pub fault: Option<(&'static str, Vec<String>)>,
}

/// A state that was reached: the one before it, the action between them, and the number of actions so far.
struct Node<A> {
    before: usize,
    action: Option<A>,
    depth: usize,
}

/// Tries every order of events. `visit` sees each state once.
pub fn explore<M: Model>(model: &M, mut visit: impl FnMut(&M::State)) -> Explored {
    let start = model.start();
    let mut nodes = vec![Node::<M::Action> {
        before: 0,
        action: None,
        depth: 0,
    }];
    let mut known = HashMap::from([(fingerprint(&start), 0)]);
    let mut ends = Vec::new();
    let mut by_itself: Vec<(usize, usize)> = Vec::new();
    let mut waiting = VecDeque::from([(0, start)]);
    let (mut steps, mut fault, mut next) = (0, None, Vec::new());
    while let Some((at, state)) = waiting.pop_front() {
        visit(&state);
        if let Some(promise) = model.broken(&state) {
            fault = Some((promise, at));
            break;
        }
        if model.is_end(&state) {
            ends.push(at);
        }
        model.next(&state, &mut next);
        steps += next.len();
        for (action, state) in next.drain(..) {
            let to = match known.entry(fingerprint(&state)) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    let depth = nodes[at].depth + 1;
                    nodes.push(Node {
                        before: at,
                        action: Some(action),
                        depth,
                    });
                    waiting.push_back((nodes.len() - 1, state));
                    *new.insert(nodes.len() - 1)
                }
            };
            if model.is_by_itself(action) {
                by_itself.push((to, at));
            }
        }
        assert!(nodes.len() <= STATES_MAX, "the model has no end");
    }
    let fault = fault.or_else(|| {
        let lost = without_end(nodes.len(), &ends, by_itself)?;
        Some(("there is a way to an end", lost))
    });
    Explored {
        states: nodes.len(),
        steps,
        depth: nodes.iter().map(|node| node.depth).max().unwrap_or(0),
        fault: fault.map(|(promise, at)| (promise, way_to(&nodes, at))),
    }
}

/// Returns the first state from which no end can be reached by actions that happen by themselves.
fn without_end(states: usize, ends: &[usize], mut edges: Vec<(usize, usize)>) -> Option<usize> {
    edges.sort_unstable();
    let mut is_reached = vec![false; states];
    let mut waiting = ends.to_vec();
    while let Some(at) = waiting.pop() {
        if !std::mem::replace(&mut is_reached[at], true) {
            let from = edges.partition_point(|(to, _)| *to < at);
            let into = edges[from..].iter().take_while(|(to, _)| *to == at);
            waiting.extend(into.map(|(_, before)| *before));
        }
    }
    is_reached.iter().position(|is_reached| !is_reached)
}

fn way_to<A: Debug>(nodes: &[Node<A>], mut at: usize) -> Vec<String> {
    let mut way = Vec::new();
    while let Some(action) = &nodes[at].action {
        way.push(format!("{action:?}"));
        at = nodes[at].before;
    }
    way.reverse();
    way
}

/// 128 bits that stand for a state: two of ten million are never the same.
fn fingerprint(state: &impl Hash) -> (u64, u64) {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        state.hash(&mut hasher);
        hasher.finish()
    };
    (half(0), half(1))
}
