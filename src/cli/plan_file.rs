//! The kernels that `residual tune` found, as a file: `{"format", "version", "arch", "input", "classes", "batch",
//! "threads", "isa", "dtype", "kernels": {layer: kernel}}`.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use residual::{graph::Graph, plan::Options, write_atomic};
use serde_json::{Map, Value, json};

const FORMAT: &str = "residual plan";
const VERSION: u64 = 1;
/// Longest plan, in bytes: a thousand layers take 100 kB.
const MAX_FILE: u64 = 4 << 20;

/// Kernels by layer, in the layers' order.
pub struct PlanFile {
    pub kernels: Vec<(String, String)>,
}

impl PlanFile {
    /// Reads a file and checks that it was made for this network, batch and instruction set. The number of threads may
    /// differ: it changes what is fastest, never what is computed.
    pub fn open(file: &Path, graph: &Graph, options: &Options) -> Result<PlanFile> {
        let text = residual::read_text(file, MAX_FILE).map_err(|error| anyhow!("{}: {error}", file.display()))?;
        PlanFile::parse(&text, graph, options).map_err(|error| anyhow!("{}: {error}", file.display()))
    }

    /// [`PlanFile::open`] of text in memory.
    pub fn parse(text: &str, graph: &Graph, options: &Options) -> Result<PlanFile> {
        let plan: Value = serde_json::from_str(text).map_err(|error| anyhow!("no plan: {error}"))?;
        ensure!(plan["format"] == FORMAT, "no plan: `format` is not \"{FORMAT}\"");
        let version = plan["version"].as_u64().context("`version` is no number")?;
        ensure!(version == VERSION, "version {version}; this program reads version {VERSION}");
        for (field, wanted) in bound_to(graph, options) {
            let made_for = &plan[field];
            // Plans of f32 networks need not say so.
            let unsaid = field == "dtype" && made_for.is_null() && wanted == "f32";
            ensure!(unsaid || *made_for == wanted, "made for {field} {made_for}, not {wanted}");
        }
        let kernels = plan["kernels"].as_object().context("`kernels` is no object")?;
        let layers: Vec<&str> =
            graph.ops().iter().filter(|op| op.conv().is_some()).map(|op| op.name.as_str()).collect();
        let pairs = kernels.iter().map(|(layer, kernel)| {
            let kernel = kernel.as_str().with_context(|| format!("the kernel of `{layer}` is no text"))?;
            ensure!(layers.contains(&layer.as_str()), "{} has no layer `{layer}`", graph.name());
            Ok((layer.clone(), kernel.to_owned()))
        });
        Ok(PlanFile { kernels: pairs.collect::<Result<_>>()? })
    }

    pub fn write(&self, file: &Path, graph: &Graph, options: &Options) -> Result<()> {
        let mut plan = Map::new();
        plan.extend([("format".into(), json!(FORMAT)), ("version".into(), json!(VERSION))]);
        plan.extend(bound_to(graph, options).map(|(field, value)| (field.to_owned(), value)));
        plan.insert("threads".into(), json!(options.threads));
        let kernels = self.kernels.iter().map(|(layer, kernel)| (layer.clone(), json!(kernel)));
        plan.insert("kernels".into(), kernels.collect());
        let text = serde_json::to_string_pretty(&plan)? + "\n";
        write_atomic(file, |out| std::io::Write::write_all(out, text.as_bytes()))
            .map_err(|error| anyhow!("{}: {error}", file.display()))
    }

    /// Has planning use the kernels.
    pub fn apply(&self, graph: &mut Graph) {
        for (layer, kernel) in &self.kernels {
            graph.prefer(layer, kernel);
        }
    }
}

/// What a plan depends on.
fn bound_to(graph: &Graph, options: &Options) -> [(&'static str, Value); 6] {
    [
        ("arch", json!(graph.name())),
        ("dtype", json!(graph.input().dtype().name())),
        ("input", json!(graph.input().shape.to_string())),
        ("classes", json!(graph.output().shape.elements())),
        ("batch", json!(options.batch)),
        ("isa", json!(options.isa.name())),
    ]
}

#[cfg(test)]
mod tests {
    use residual::{Isa, graph::Graph, plan::Options, resnet};

    use super::PlanFile;

    #[test]
    fn a_plan_comes_back_and_fits_nothing_else() {
        let graph = |name: &str| -> Graph { resnet::graph(&name.parse().unwrap()).unwrap() };
        let ours = graph("resnet20-cifar");
        let options = Options { isa: Isa::PORTABLE, ..Options::default() };
        let kernels = vec![("conv1".to_owned(), "direct-f32-portable-6x8".to_owned())];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plan.json");
        PlanFile { kernels: kernels.clone() }.write(&file, &ours, &options).unwrap();
        assert_eq!(PlanFile::open(&file, &ours, &options).unwrap().kernels, kernels);
        // Only what is fastest depends on threads.
        assert!(PlanFile::open(&file, &ours, &Options { threads: 2, ..options }).is_ok());

        let refused = |spec: &str, options: &Options| {
            let error = PlanFile::open(&file, &graph(spec), options).err().unwrap();
            error.to_string().strip_prefix(&format!("{}: ", file.display())).unwrap().to_owned()
        };
        assert_eq!(refused("resnet56-cifar", &options), "made for arch \"resnet20-cifar\", not \"resnet56-cifar\"");
        assert_eq!(refused("resnet20-cifar", &Options { batch: 2, ..options }), "made for batch 1, not 2");

        let text = std::fs::read_to_string(&file).unwrap();
        for (from, to, error) in [
            ("residual plan", "recipe", "no plan: `format` is not \"residual plan\""),
            ("\"version\": 1", "\"version\": 2", "version 2; this program reads version 1"),
            ("\"conv1\"", "\"conv9\"", "resnet20-cifar has no layer `conv9`"),
            ("\"direct-f32-portable-6x8\"", "7", "the kernel of `conv1` is no text"),
            ("{", "[", "no plan: "),
        ] {
            let got = PlanFile::parse(&text.replacen(from, to, 1), &ours, &options).err().unwrap().to_string();
            assert!(got.starts_with(error), "{got}");
        }
    }
}
