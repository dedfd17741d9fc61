//! Threads that share the bands of one layer after another, entered once for a whole network.
//!
//! A fork and join for every layer would cost more than a small layer's work. Instead helpers join
//! once and take bands by an atomic ticket; between layers they spin for a moment. The leader
//! never waits for a thread that has not taken a band: with busy cores or a busy pool it does all
//! the work itself, so there is nothing to dead-lock on and nothing to over-subscribe.

use core::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};
use std::sync::Mutex;

use super::{buffer::Buffer, denormals::FlushDenormals};
use crate::plan::Executor;

/// The work of one layer: a call for every band.
type Job<'a> = &'a (dyn Fn(usize, &mut [f32]) + Sync + 'a);

/// Ticket: `epoch << 32 | bands << 16 | next`. Adding 1 takes a band.
const NEXT: u64 = 0xFFFF;
const FINISHED: u64 = u64::MAX;

fn bands(ticket: u64) -> u64 {
    (ticket >> 16) & 0xFFFF
}

/// What leader and helpers share during one run.
pub struct Team<'s> {
    scratch: &'s [Mutex<Buffer>],
    ticket: AtomicU64,
    done: AtomicUsize,
    job: UnsafeCell<Option<Job<'static>>>,
}

// SAFETY: `job` is written by the leader only while no band is open (every band of the ticket before
// is done) and read by others only after they took a band of the ticket published behind the write.
unsafe impl Sync for Team<'_> {}

impl<'s> Team<'s> {
    /// Runs `lead` on this thread with up to `scratch.len() - 1` helpers from `pool`.
    pub fn run<R>(
        pool: &rayon::ThreadPool,
        scratch: &'s [Mutex<Buffer>],
        lead: impl FnOnce(&Leader<'_, 's>) -> R,
    ) -> R {
        let team = Team { scratch, ticket: AtomicU64::new(0), done: AtomicUsize::new(0), job: UnsafeCell::new(None) };
        pool.in_place_scope(|scope| {
            // Dropped on unwinding too: helpers must leave for the scope to end.
            let leader = Leader(&team);
            for worker in 1..scratch.len() {
                let team = &team;
                scope.spawn(move |_| team.help(worker));
            }
            lead(&leader)
        })
    }

    /// Takes a band of the open layer and runs it.
    fn take(&self, scratch: &mut [f32]) -> bool {
        let ticket = self.ticket.load(Ordering::Acquire);
        let next = ticket & NEXT;
        // Not a plain addition: it could turn a ticket that has just become `FINISHED` into another.
        if ticket == FINISHED
            || next >= bands(ticket)
            || self.ticket.compare_exchange(ticket, ticket + 1, Ordering::AcqRel, Ordering::Relaxed).is_err()
        {
            return false;
        }
        // SAFETY: this band of the open layer is ours and not done, so the leader waits in
        // `for_each`: the job is alive and nobody writes the cell.
        if let Some(job) = unsafe { *self.job.get() } {
            let whole = AbortOnUnwind;
            job(next as usize, scratch);
            core::mem::forget(whole);
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }

    fn help(&self, worker: usize) {
        let Ok(mut scratch) = self.scratch[worker].lock() else { return };
        let _flush = FlushDenormals::new();
        let mut patience = Patience::default();
        while self.ticket.load(Ordering::Relaxed) != FINISHED {
            if self.take(scratch.as_mut_slice()) { patience = Patience::default() } else { patience.wait() }
        }
    }
}

/// The thread that runs the plan.
pub struct Leader<'t, 's>(&'t Team<'s>);

impl Drop for Leader<'_, '_> {
    fn drop(&mut self) {
        self.0.ticket.store(FINISHED, Ordering::Release);
    }
}

impl Executor for Leader<'_, '_> {
    fn for_each(&self, n: usize, band: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        let team = self.0;
        let Ok(mut scratch) = team.scratch[0].lock() else { return };
        let scratch = scratch.as_mut_slice();
        if n <= 1 || n as u64 >= NEXT {
            return (0..n).for_each(|i| band(i, scratch));
        }
        // SAFETY: only the lifetime changes. The job is called for bands of this ticket only, and this
        // function does not return, nor unwind (see `AbortOnUnwind`), before all of them are done.
        let job = unsafe { core::mem::transmute::<Job<'_>, Job<'static>>(band) };
        // SAFETY: every band of the ticket before is done, so nobody reads the cell now.
        unsafe { *team.job.get() = Some(job) };
        team.done.store(0, Ordering::Relaxed);
        let epoch = ((team.ticket.load(Ordering::Relaxed) >> 32) + 1) & 0x7FFF_FFFF;
        team.ticket.store((epoch << 32) | ((n as u64) << 16), Ordering::Release);
        let mut patience = Patience::default();
        while team.done.load(Ordering::Acquire) < n {
            if !team.take(scratch) {
                patience.wait();
            }
        }
    }
}

/// A band that panics on the leader would leave helpers with a job that is gone; one that panics on
/// a helper would leave the leader waiting for ever. Neither can be repaired.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// Spins for some microseconds, then gives the core away between looks.
#[derive(Default)]
struct Patience(u32);

impl Patience {
    fn wait(&mut self) {
        if self.0 < 4000 {
            self.0 += 1;
            core::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}
