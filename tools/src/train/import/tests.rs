#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use super::*;

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new(factors: &[f32], ids: &str) -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        npy::write(&files.path("factors.npy"), &[factors.len() / 2, 2], factors).unwrap();
        fs::write(files.path("ids.txt"), ids).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn import(&self) -> Import {
        Import {
            factors: self.path("factors.npy"),
            ids: self.path("ids.txt"),
            context: None,
            items: None,
            metric: None,
            weighting: Weighting::default(),
            k_neighbours: 2,
            encoder: true,
            seed: 1,
        }
    }

    fn run(&self) -> Result<ModelDir, ImportError> {
        import(&self.import(), &())
    }
}

const FACTORS: [f32; 6] = [3.0, 4.0, 3.0, 3.9, -1.0, 0.5];

#[test]
fn factors_become_a_model() {
    let files = Files::new(&FACTORS, "\u{feff}a\r\nb\nc");
    let mut wanted = files.import();
    fs::write(files.path("items.jsonl"), "\u{feff}{\"id\":\"b\",\"title\":\"Bee\"}\n{\"id\":\"zzz\"}\n").unwrap();
    wanted.items = Some(files.path("items.jsonl"));
    npy::write(&files.path("context.npy"), &[3, 2], &[1.0_f64 as f32, 0.0, 0.0, 1.0, 1.0, 1.0]).unwrap();
    wanted.context = Some(files.path("context.npy"));
    let model = import(&wanted, &()).unwrap();
    assert_eq!(model.info.metric, ModelMetric::InnerProduct);
    assert!(!model.info.symmetric);
    assert_eq!(model.items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(model.items[1].title, "Bee");
    assert_eq!(model.popularity[0], 5.0);
    assert_eq!(model.neighbours[..2], [1, model_dir::NO_NEIGHBOUR], "c points the other way");
    assert!(model.queries.rows > 0);
    let out = files.path("model");
    model.write(&out, false).unwrap();
    assert_eq!(ModelDir::load(&out).unwrap(), model);
}

#[test]
fn words_are_learned_where_they_are_wanted() {
    let ids: Vec<String> = (0..24).map(|item| format!("item-{item}")).collect();
    let factors: Vec<f32> = (0..24).flat_map(|item| [1.0, (item % 2) as f32]).collect();
    let files = Files::new(&factors, &ids.join("\n"));
    let line = |(item, id): (usize, &String)| format!("{{\"id\":\"{id}\",\"title\":\"thing {}\"}}\n", item % 2);
    fs::write(files.path("items.jsonl"), ids.iter().enumerate().map(line).collect::<String>()).unwrap();
    let with = Import { items: Some(files.path("items.jsonl")), ..files.import() };
    assert!(import(&with, &()).unwrap().encoder.is_some());
    let without = import(&Import { encoder: false, ..with }, &()).unwrap();
    assert_eq!((without.encoder, without.info.encoder), (None, None));
}

#[test]
fn rows_of_length_one_make_a_cosine_model() {
    let files = Files::new(&[0.6, 0.8, 1.0, 0.0], "a\nb\n");
    let model = files.run().unwrap();
    assert_eq!(model.info.metric, ModelMetric::Cosine);
    assert_eq!(model.popularity, [0.0, 0.0]);
    let raw = Import { metric: Some(ModelMetric::InnerProduct), ..files.import() };
    assert_eq!(import(&raw, &()).unwrap().info.metric, ModelMetric::InnerProduct);
    let files = Files::new(&FACTORS, "a\nb\nc\n");
    let cosine = Import { metric: Some(ModelMetric::Cosine), ..files.import() };
    assert!(matches!(import(&cosine, &()), Err(ImportError::NotUnitLength { row: 0, .. })));
}

#[test]
fn what_cannot_be_used_is_refused_with_its_place() {
    let refused = |factors: &[f32], ids: &str| Files::new(factors, ids).run().unwrap_err().to_string();
    assert!(refused(&FACTORS, "a\nb\n").contains("2 keys for 3 rows"));
    assert!(refused(&FACTORS, "a\nb\na\n").contains("line 3: the key \"a\" stands in line 1"));
    assert!(refused(&FACTORS, "a\n\nc\n").contains("line 2: a key of 0 bytes"));
    assert!(refused(&FACTORS, &format!("a\nb\n{}\n", "x".repeat(257))).contains("257 bytes"));
    assert!(refused(&[1.0, 0.0, 0.0, 0.0], "a\nb\n").contains("row 1 (item \"b\") is all zeros"));
    assert!(refused(&[f32::NAN, 0.0, 1.0, 0.0], "a\nb\n").contains("row 0 (item \"a\") holds"));
    assert!(refused(&[], "").contains("no factors"));
    let files = Files::new(&FACTORS, "a\nb\nc\n");
    npy::write(&files.path("context.npy"), &[2, 2], &[1.0_f32; 4]).unwrap();
    let wanted = Import { context: Some(files.path("context.npy")), ..files.import() };
    assert!(import(&wanted, &()).unwrap_err().to_string().contains("2 × 2, expected 3 × 2"));
    std::fs::write(files.path("items.jsonl"), "{\"id\": \"A\"}\n").unwrap();
    let wanted = Import { items: Some(files.path("items.jsonl")), ..files.import() };
    let error = import(&wanted, &()).unwrap_err().to_string();
    assert!(error.contains("\"A\"") && error.contains("\"a\""), "{error}");
    let wanted = Import { ids: files.path("nothing.txt"), ..files.import() };
    assert!(matches!(import(&wanted, &()), Err(ImportError::Read { .. })));
}
