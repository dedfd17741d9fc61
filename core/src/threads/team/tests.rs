//! The protocol in every order of its steps, and teams of real threads that are late, absent or panic.

use std::{
    cell::Cell,
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    vec::Vec,
};

use super::{
    Team,
    protocol::{Board, Hand, Helper, Leader, Ticket},
};
use crate::threads::Executor;

#[test]
fn a_ticket_gives_every_band_once_from_both_ends_and_never_ends_by_itself() {
    for bands in [1, 2, 7, Ticket::MAX] {
        let board = Model::default();
        board.publish(Ticket::open(bands));
        let mut seen = vec![0; bands];
        for who in (0..).take(bands) {
            assert_ne!(board.ticket(), Ticket::FINISHED);
            let mut helper = Helper::In(Hand::Look);
            while !matches!(helper, Helper::In(Hand::Run(_))) {
                helper = helper.next(&board, who % 3);
            }
            let Helper::In(Hand::Run(band)) = helper else { unreachable!() };
            seen[band] += 1;
        }
        assert_eq!(Helper::In(Hand::Look).next(&board, 1), Helper::In(Hand::Idle));
        assert!(seen.iter().all(|&n| n == 1));
    }
}

/// The board as plain values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Model {
    ticket: Word<Ticket>,
    reported: Word<usize>,
    present: [Word<bool>; THREADS],
}

/// A `Cell` that can be compared and hashed.
#[derive(Clone, Debug, Default)]
struct Word<T: Copy>(Cell<T>);

impl<T: Copy + PartialEq> PartialEq for Word<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl<T: Copy + Eq> Eq for Word<T> {}

impl<T: Copy + std::hash::Hash> std::hash::Hash for Word<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.get().hash(state);
    }
}

impl Default for Model {
    fn default() -> Self {
        let present = [const { Word(Cell::new(false)) }; THREADS];
        Model { ticket: Word(Cell::new(Ticket::FINISHED)), reported: Word::default(), present }
    }
}

impl Board for Model {
    fn ticket(&self) -> Ticket {
        self.ticket.0.get()
    }
    fn publish(&self, ticket: Ticket) {
        self.ticket.0.set(ticket);
    }
    fn exchange(&self, from: Ticket, to: Ticket) -> bool {
        let same = self.ticket() == from;
        if same {
            self.publish(to);
        }
        same
    }
    fn report(&self) {
        self.reported.0.set(self.reported() + 1);
    }
    fn reported(&self) -> usize {
        self.reported.0.get()
    }
    fn forget_reports(&self) {
        self.reported.0.set(0);
    }
    fn sign(&self, who: usize, present: bool) -> bool {
        self.present[who].0.replace(present)
    }
}

const THREADS: usize = 3;
/// Bands of the layers of two runs.
const RUNS: [&[usize]; 2] = [&[2, 3], &[2]];

/// A state of leader, helpers and board. A helper's task that has not begun is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    board: Model,
    /// run and layer
    at: (usize, usize),
    leader: Leader,
    tasks: Vec<(usize, Option<Helper>)>,
    /// runs of every band of the open layer; empty while the closure must not be touched
    seen: Vec<u8>,
}

impl State {
    fn first() -> Self {
        State { board: Model::default(), at: (0, 0), leader: Leader::Prepare, tasks: Vec::new(), seen: Vec::new() }
    }

    fn bands(&self) -> Option<usize> {
        RUNS.get(self.at.0)?.get(self.at.1).copied()
    }

    /// A band is entered: only of a layer whose closure lives, and only once.
    fn enter(&mut self, band: usize) {
        let seen = self.seen.get_mut(band).expect("a band was run whose layer is over");
        *seen += 1;
        assert_eq!(*seen, 1, "band {band} was run twice");
    }

    /// The leader's next state.
    fn lead(&self) -> Option<Self> {
        let mut next = self.clone();
        let Some(bands) = self.bands() else {
            let (run, _) = self.at;
            RUNS.get(run)?;
            next.board.publish(Ticket::FINISHED);
            next.at = (run + 1, 0);
            return Some(next);
        };
        next.leader = match self.leader {
            Leader::Start(who) => {
                next.tasks.push((who, None));
                Leader::Call(who + 1)
            }
            Leader::In(Hand::Run(_)) => Leader::In(Hand::Report),
            Leader::Done => {
                assert!(self.seen.iter().all(|&n| n == 1), "a band was lost: {self:?}");
                let inside = |task: &Option<Helper>| matches!(task, Some(Helper::In(Hand::Run(_) | Hand::Report)));
                assert!(!self.tasks.iter().any(|(_, task)| inside(task)), "the closure went while it was called");
                next.seen.clear();
                next.at.1 += 1;
                Leader::Prepare
            }
            leader => leader.next(&next.board, bands, THREADS),
        };
        if self.leader == Leader::Prepare {
            next.seen = vec![0; bands];
        }
        if let Leader::In(Hand::Run(band)) = next.leader {
            next.enter(band);
        }
        Some(next)
    }

    /// The next states of task `i`.
    fn help(&self, i: usize) -> Vec<Self> {
        let (who, task) = self.tasks[i];
        let mut next = self.clone();
        let step = match task {
            None => Helper::In(Hand::Look),
            Some(Helper::In(Hand::Run(_))) => Helper::In(Hand::Report),
            Some(Helper::In(Hand::Idle)) => {
                let mut patient = self.clone();
                patient.tasks[i].1 = Some(Helper::In(Hand::Look));
                next.tasks[i].1 = Some(Helper::SignOff);
                return vec![patient, next];
            }
            Some(step) => step.next(&next.board, who),
        };
        if let Helper::In(Hand::Run(band)) = step {
            next.enter(band);
        }
        if step == Helper::Gone {
            next.tasks.remove(i);
        } else {
            next.tasks[i].1 = Some(step);
        }
        next.tasks.sort();
        vec![next]
    }

    fn check(&self) {
        for who in 1..THREADS {
            let tasks = || self.tasks.iter().filter(|task| task.0 == who).map(|task| task.1);
            let owns = |task: &Option<Helper>| matches!(task, Some(Helper::In(_) | Helper::SignOff));
            assert!(tasks().filter(owns).count() <= 1, "two tasks share one scratch: {self:?}");
            let coming = tasks().filter(|task| task.is_none() || owns(task)).count();
            let called = usize::from(self.leader == Leader::Start(who));
            let present = usize::from(self.board.present[who].0.get());
            assert_eq!(present, coming + called, "the leader counts on a helper who is not there: {self:?}");
        }
        // The leader needs nobody but those who are in a band.
        let busy = |task: &Option<Helper>| matches!(task, Some(Helper::In(Hand::Run(_) | Hand::Report)));
        if !self.tasks.iter().any(|(_, task)| busy(task)) {
            let mut alone = self.clone();
            for _ in 0..100 {
                match alone.lead() {
                    Some(next) => alone = next,
                    None => return,
                }
            }
            panic!("the leader waits for a helper that has taken nothing: {self:?}");
        }
    }
}

#[test]
fn in_every_order_of_steps_each_band_runs_once_and_the_leader_waits_only_for_bands_taken() {
    let (mut seen, mut open) = (HashSet::new(), vec![State::first()]);
    let mut ends = 0;
    while let Some(state) = open.pop() {
        if !seen.insert(state.clone()) {
            continue;
        }
        state.check();
        let next = state.lead();
        ends += usize::from(next.is_none() && state.tasks.is_empty());
        open.extend(next);
        open.extend((0..state.tasks.len()).flat_map(|i| state.help(i)));
    }
    assert!(ends > 0 && seen.len() > 10_000, "{} states", seen.len());
}

fn pool(threads: usize) -> Arc<rayon::ThreadPool> {
    Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
}

fn count(team: &mut Team, bands: usize) -> usize {
    let n = AtomicUsize::new(0);
    team.run(|leader| {
        leader.for_each(bands, &|_, _| {
            n.fetch_add(1, Ordering::Relaxed);
        })
    });
    n.into_inner()
}

#[test]
fn a_team_whose_pool_waits_for_its_caller_does_all_the_work_itself() {
    let pool = pool(1);
    let mut team = Team::new(Some(Arc::clone(&pool)), 2, 16).unwrap();
    assert_eq!(count(&mut team, 50), 50);
    let (done, wait) = mpsc::channel::<()>();
    pool.spawn(move || wait.recv().unwrap_or_default());
    // Ends at all only if nobody waits for the pool.
    for _ in 0..100 {
        assert_eq!(count(&mut team, 50), 50);
    }
    drop(done);
    // A helper that begins when its team is gone finds nothing to do.
    drop(team);
    pool.install(|| ());
}

#[test]
fn helpers_that_began_leave_a_leader_that_is_busy_elsewhere() {
    let pool = pool(1);
    let mut team = Team::new(Some(Arc::clone(&pool)), 2, 16).unwrap();
    team.run(|leader| {
        leader.for_each(50, &|_, _| ());
        // The pool's only thread is free for this, though the run goes on.
        pool.install(|| ());
        leader.for_each(50, &|_, _| ());
    });
}

#[cfg(panic = "unwind")]
#[test]
fn a_panic_in_a_band_reaches_the_caller_and_the_next_run_is_whole() {
    for threads in [1, 2, 4] {
        let pool = (threads > 1).then(|| pool(threads - 1));
        let mut team = Team::new(pool, threads, 16).unwrap();
        for _ in 0..50 {
            let others = AtomicUsize::new(0);
            let mut run = || {
                team.run(|leader| {
                    leader.for_each(20, &|i, _| {
                        assert!(i % 7 != 3, "band {i}");
                        others.fetch_add(1, Ordering::Relaxed);
                    });
                })
            };
            let payload = catch_unwind(AssertUnwindSafe(&mut run)).unwrap_err();
            let message = payload.downcast_ref::<String>().unwrap();
            assert!(["band 3", "band 10", "band 17"].contains(&message.as_str()), "{message}");
            assert_eq!(count(&mut team, 5), 5, "{threads} threads");
        }
    }
}

#[test]
fn a_layer_inside_a_band_gets_scratch_of_its_own() {
    struct ThisThread<'l, 't>(&'l super::Leader<'t>);
    // SAFETY: the team has one thread: no other ever sees it.
    unsafe impl Sync for ThisThread<'_, '_> {}
    impl ThisThread<'_, '_> {
        fn for_each(&self, n: usize, band: &super::Job<'_>) {
            self.0.for_each(n, band);
        }
    }

    let mut team = Team::new(None, 1, 16).unwrap();
    let inner = AtomicUsize::new(0);
    team.run(|leader| {
        let leader = ThisThread(leader);
        leader.for_each(2, &|_, outer| {
            outer.fill(1.0);
            leader.for_each(3, &|_, scratch| {
                scratch.fill(2.0);
                inner.fetch_add(scratch.len(), Ordering::Relaxed);
            });
            assert!(outer.iter().all(|&v| v == 1.0));
        });
    });
    assert_eq!(inner.into_inner(), 6 * 16);
}

#[cfg(unix)]
#[test]
fn another_process_than_the_teams_calls_no_helper() {
    // A forked child has a copy of the team, but none of the pool's threads.
    let mut team = Team::new(Some(pool(1)), 2, 16).unwrap();
    team.process += 1;
    assert_eq!(count(&mut team, 50), 50);
    assert!(!team.shared.helpers[0].present.load(Ordering::Relaxed));
}
