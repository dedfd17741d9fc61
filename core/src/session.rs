//! A planned and packed network that owns its memory, and runs of it.

use alloc::sync::Arc;

#[cfg(feature = "parallel")]
use crate::arch::Team;
#[cfg(not(feature = "parallel"))]
use crate::plan::Serial;
use crate::{
    Error,
    arch::Buffer,
    net::Net,
    plan::{Options, Plan, Step},
};

/// A plan together with its packed weights. Immutable: share it between threads.
pub struct Model {
    plan: Plan,
    packed: Buffer,
}

impl Model {
    /// Plans and packs `net`. The network and its weights are not needed afterwards.
    ///
    /// # Errors
    /// As [`Plan::new`]; [`Error::OutOfMemory`] when there is too little for the packed weights.
    pub fn new(net: &Net<'_>, options: &Options) -> Result<Self, Error> {
        let plan = Plan::new(net, options)?;
        let mut packed = Buffer::try_new(plan.packed_len())?;
        #[cfg(feature = "std")]
        plan.prepack_in_parallel(net, packed.as_mut_slice())?;
        #[cfg(not(feature = "std"))]
        plan.prepack(net, packed.as_mut_slice())?;
        Ok(Model { plan, packed })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// The memory one run needs, and the threads that share it.
///
/// ```
/// use residual_core::{net::fold_batch_norm, plan::Options, session::Session, testing::Generated};
///
/// let weights = Generated::new("resnet20-cifar".parse()?);
/// let net = fold_batch_norm(weights.spec(), &weights)?;
/// let mut session = Session::new(&net, &Options::default())?;
/// let logits = session.run(&vec![0.5; 32 * 32 * 3])?;
/// assert_eq!(logits.len(), 10);
/// # Ok::<(), residual_core::Error>(())
/// ```
pub struct Session {
    model: Arc<Model>,
    arena: Buffer,
    #[cfg(not(feature = "parallel"))]
    scratch: Buffer,
    #[cfg(feature = "parallel")]
    team: Team,
}

impl Session {
    /// Plans and packs `net`, and starts `options.threads - 1` helper threads, but no more than
    /// affinity and quotas let run beside this one (feature `parallel`; without it everything runs on
    /// the calling thread).
    ///
    /// # Errors
    /// As [`Model::new`] and [`Session::with_model`].
    pub fn new(net: &Net<'_>, options: &Options) -> Result<Self, Error> {
        Session::with_model(Arc::new(Model::new(net, options)?))
    }

    /// A session on a shared model, with helper threads of its own. In a process that was forked since, it runs on the
    /// calling thread.
    ///
    /// # Errors
    /// [`Error::Threads`] when the threads cannot be started, [`Error::OutOfMemory`] when there is too little memory for
    /// the plan's maps.
    pub fn with_model(model: Arc<Model>) -> Result<Self, Error> {
        #[cfg(feature = "parallel")]
        {
            let asked = model.plan.options().threads;
            // More threads than this process may run at once would only take turns.
            let threads = asked.min(std::thread::available_parallelism().map_or(asked, usize::from));
            if threads == 1 {
                return Session::in_pool_of(model, None);
            }
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads - 1)
                .thread_name(|i| std::format!("residual-{}", i + 1))
                .build()
                .map_err(|_| Error::Threads { asked })?;
            Session::in_pool_of(model, Some(Arc::new(pool)))
        }
        #[cfg(not(feature = "parallel"))]
        {
            let arena = Buffer::try_new(model.plan.arena_len())?;
            let scratch = Buffer::try_new(model.plan.scratch_len())?;
            Ok(Session { model, arena, scratch })
        }
    }

    /// A session whose helpers come from the caller's pool, which may be the one it is called from. It
    /// never waits for a busy pool: bands that no helper takes run on the calling thread.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when there is too little memory for the plan's maps.
    #[cfg(feature = "parallel")]
    pub fn in_pool(model: Arc<Model>, pool: Arc<rayon::ThreadPool>) -> Result<Self, Error> {
        Session::in_pool_of(model, Some(pool))
    }

    #[cfg(feature = "parallel")]
    fn in_pool_of(model: Arc<Model>, pool: Option<Arc<rayon::ThreadPool>>) -> Result<Self, Error> {
        let plan = &model.plan;
        // In a smaller pool some helpers would only wait for the others to end.
        let threads = plan.options().threads.min(1 + pool.as_ref().map_or(0, |pool| pool.current_num_threads()));
        let team = Team::new(pool, threads, plan.scratch_len())?;
        Ok(Session { arena: Buffer::try_new(plan.arena_len())?, team, model })
    }

    /// Threads it runs on at most, the calling one among them: as many as its options ask for, or fewer.
    pub fn threads(&self) -> usize {
        #[cfg(feature = "parallel")]
        return self.team.threads();
        #[cfg(not(feature = "parallel"))]
        1
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.model.plan
    }

    /// Runs `batch` images (NHWC) and returns `batch` rows of logits.
    ///
    /// # Errors
    /// [`Error::BufferLength`] when `images` is not [`Plan::input_len`] elements long.
    pub fn run(&mut self, images: &[f32]) -> Result<&[f32], Error> {
        self.run_with(images, |_, _| {})
    }

    /// Like [`Session::run`]; calls `after(step, output)` behind every layer, to time or to look at
    /// them. Layers with large maps run on some images of the batch at a time: several calls, in order.
    ///
    /// # Errors
    /// As for [`Session::run`].
    pub fn run_with(&mut self, images: &[f32], mut after: impl FnMut(&Step, &[f32])) -> Result<&[f32], Error> {
        self.run_editing(images, |step, output| after(step, output))
    }

    /// Like [`Session::run_with`], and what `edit` makes of a layer's output is what later layers read.
    ///
    /// # Errors
    /// As for [`Session::run`].
    pub fn run_editing(&mut self, images: &[f32], edit: impl FnMut(&Step, &mut [f32])) -> Result<&[f32], Error> {
        let Model { plan, packed } = &*self.model;
        let (arena, packed) = (self.arena.as_mut_slice(), packed.as_slice());
        #[cfg(not(feature = "parallel"))]
        return plan.execute_editing(images, packed, arena, &Serial::new(self.scratch.as_mut_slice()), edit);
        #[cfg(feature = "parallel")]
        self.team.run(|leader| plan.execute_editing(images, packed, arena, leader, edit))
    }
}

#[cfg(all(test, feature = "parallel"))]
mod tests {
    use std::sync::Arc;

    use rayon::prelude::*;

    use super::{Model, Session};
    use crate::{Error, net::fold_batch_norm, plan::Options, testing::Generated};

    fn model(threads: usize) -> Arc<Model> {
        let weights = Generated::new("resnet8-cifar-w4".parse().unwrap());
        let net = fold_batch_norm(weights.spec(), &weights).unwrap();
        Arc::new(Model::new(&net, &Options { threads, ..Options::default() }).unwrap())
    }

    fn pool(threads: usize) -> Arc<rayon::ThreadPool> {
        Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
    }

    /// Ends if no run loses a helper or a band, whatever the moment at which helpers come and go.
    #[test]
    fn many_short_runs_on_more_threads_than_cores_end_with_the_same_bits() {
        let image = Generated::signed("input", 32 * 32 * 3);
        let want = Session::with_model(model(1)).unwrap().run(&image).unwrap().to_vec();
        for threads in [2, 5] {
            let sessions = [
                Session::with_model(model(threads)).unwrap(),
                Session::in_pool(model(threads), pool(threads - 1)).unwrap(),
            ];
            for mut session in sessions {
                for _ in 0..500 {
                    assert_eq!(session.run(&image).unwrap(), want);
                }
            }
        }
    }

    /// Sessions inside tasks of the pool their helpers come from, more of them than it has threads.
    #[test]
    fn a_session_inside_its_own_pool_neither_waits_nor_changes_a_bit() {
        let image = Generated::signed("input", 32 * 32 * 3);
        let want = Session::with_model(model(1)).unwrap().run(&image).unwrap().to_vec();
        let model = model(3);
        for threads in [1, 2, 4] {
            let pool = pool(threads);
            let all: Vec<Vec<f32>> = pool.install(|| {
                let task = |_| {
                    let mut session = Session::in_pool(Arc::clone(&model), Arc::clone(&pool)).unwrap();
                    (0..20).for_each(|_| assert!(session.run(&image).is_ok()));
                    session.run(&image).unwrap().to_vec()
                };
                (0..8).into_par_iter().map(task).collect()
            });
            assert!(all.iter().all(|logits| *logits == want));
        }
    }

    #[test]
    fn a_batch_that_no_memory_holds_is_an_error_that_says_how_much_was_asked_for() {
        let weights = Generated::new("resnet8-cifar-w4".parse().unwrap());
        let net = fold_batch_norm(weights.spec(), &weights).unwrap();
        let session = Session::new(&net, &Options { batch: 1 << 40, ..Options::default() });
        let Err(Error::OutOfMemory { bytes }) = session.map(|_| ()) else { panic!("accepted") };
        assert!(bytes >= 4 << 40);
    }

    /// Ends only if the session does not wait for its pool, which waits for the session's caller.
    #[test]
    fn a_session_in_a_pool_that_waits_for_it_does_all_the_work_itself() {
        let image = Generated::signed("input", 32 * 32 * 3);
        let want = Session::with_model(model(1)).unwrap().run(&image).unwrap().to_vec();
        let pool = pool(1);
        let mut session = Session::in_pool(model(2), Arc::clone(&pool)).unwrap();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        pool.spawn(move || wait.recv().unwrap_or_default());
        (0..3).for_each(|_| assert_eq!(session.run(&image).unwrap(), want));
        drop(done);
    }

    #[test]
    fn subnormal_inputs_give_the_same_bits_on_any_thread_and_leave_the_caller_his_own() {
        let image: Vec<f32> = Generated::signed("input", 32 * 32 * 3).iter().map(|v| v * 1e-39).collect();
        assert!(image.iter().any(|v| v.is_subnormal()));
        let zeros = vec![0.0; image.len()];
        let want = Session::with_model(model(1)).unwrap().run(&zeros).unwrap().to_vec();
        let half = || std::hint::black_box(f32::MIN_POSITIVE) * std::hint::black_box(0.5);
        for threads in [1, 2, 4] {
            let mut session = Session::in_pool(model(threads), pool(threads)).unwrap();
            for _ in 0..50 {
                let logits = session.run_with(&image, |_, _| assert!(half() > 0.0)).unwrap();
                // Where subnormals count as zero the picture is black, on whichever thread.
                if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
                    assert_eq!(logits, want);
                }
            }
            assert!(half() > 0.0);
        }
    }
}
