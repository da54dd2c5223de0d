#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use kindred_index::RowSource;

use super::*;

fn tiny() -> ModelDir {
    let info = ModelInfo {
        format_version: FORMAT_VERSION,
        trainer: "als".to_owned(),
        parameters: serde_json::json!({"alpha": 5.0}),
        seed: 7,
        factors: 2,
        metric: ModelMetric::InnerProduct,
        symmetric: false,
        weighting: Weighting::default(),
        kinds: vec!["view".to_owned()],
        training_window: Some(TrainingWindow { first_ms: 1, last_ms: 9 }),
        n_users: 4,
        n_items: 3,
        n_interactions: 8,
        n_cold_items: 0,
        k_neighbours: 1,
        neighbours: None,
        session_likeness: Default::default(),
        loss: vec![2.0, 1.5],
        validation: None,
        learned: None,
        encoder: None,
        dataset_fingerprint: Some("0badcafe".to_owned()),
        tool_version: "0.1.0".to_owned(),
    };
    ModelDir {
        info,
        item_factors: Matrix::from_vec(3, 2, vec![1.0, 0.0, 0.0, 2.0, 1.0, 1.0]).unwrap(),
        context_factors: Some(Matrix::from_vec(3, 2, vec![1.0, 0.0, 0.0, 1.0, 0.6, 0.8]).unwrap()),
        items: ["a", "b", "ü"].map(CatalogItem::new).to_vec(),
        neighbours: vec![2, NO_NEIGHBOUR, 0],
        neighbour_similarities: vec![0.5, 0.0, 0.5],
        popularity: vec![4.0, 0.0, 1.5],
        sessions: Some(SessionTable { offsets: vec![0, 2], items: vec![2, 1] }),
        encoder: Some(EncoderTable {
            keys: vec![3, u64::MAX - 1],
            weights: vec![1.0, 2.5],
            rows: vec![0.5, 0.0, 0.0, -1.0],
            context_rows: vec![0.0, 0.25, 1.0, 0.0],
        }),
        queries: Matrix::from_vec(1, 2, vec![0.5, 0.5]).unwrap(),
    }
}

impl ModelDir {
    /// A model as its files say, all of it.
    pub(crate) fn load(dir: &Path) -> Result<Self, ModelDirError> {
        let (files, mut items) = (ModelFiles::open(dir)?, Vec::new());
        let parts = files.parts();
        let gathered = files.parts().items.each(&mut |item| {
            items.push(item.clone());
            Ok(())
        });
        gathered.map_err(|error| ModelDirError::of(error, dir))?;
        let info = parts.info.clone();
        fn all<T: Copy>(rows: &dyn RowSource<T>, width: usize) -> Vec<T> {
            let mut all = Vec::new();
            rows.each(width, &mut |row| {
                all.extend_from_slice(row);
                Ok(())
            })
            .unwrap();
            all
        }
        let factors = |rows| Matrix::from_vec(items.len(), info.factors, all(rows, info.factors)).unwrap();
        Ok(Self {
            item_factors: factors(parts.item_factors.1),
            context_factors: parts.context_factors.map(|(_, context)| factors(context)),
            neighbours: all(parts.neighbours, info.k_neighbours),
            neighbour_similarities: all(parts.neighbour_similarities, info.k_neighbours),
            popularity: parts.popularity.to_vec(),
            sessions: parts.sessions.cloned(),
            encoder: parts.encoder.cloned(),
            queries: parts.queries.clone(),
            info,
            items,
        })
    }
}

#[test]
fn a_model_survives_the_disk() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("model/");
    let model = tiny();
    model.write(&dir, false).unwrap();
    assert_eq!(ModelDir::load(&dir).unwrap(), model);
    assert!(!root.path().join("model.partial").exists());
    let symmetric =
        ModelDir { info: ModelInfo { symmetric: true, ..model.info.clone() }, context_factors: None, ..model.clone() };
    symmetric.write(&dir, true).unwrap();
    assert_eq!(ModelDir::load(&dir).unwrap(), symmetric);
    assert!(!dir.join(CONTEXT_FACTORS).exists(), "nothing of the old model is left");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "and nothing beside it");
}

#[test]
fn nothing_is_overwritten_without_force_and_only_models_with_it() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("model");
    tiny().write(&dir, false).unwrap();
    assert!(matches!(tiny().write(&dir, false), Err(ModelDirError::Dir(WholeDirError::Exists { .. }))));
    let precious = root.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("thesis.tex"), "...").unwrap();
    assert!(matches!(tiny().write(&precious, true), Err(ModelDirError::Dir(WholeDirError::Another { .. }))));
    assert!(matches!(writable(&precious.join("thesis.tex"), true), Err(WholeDirError::Another { .. })));
    let empty = root.path().join("empty");
    fs::create_dir(&empty).unwrap();
    tiny().write(&empty, false).unwrap();
    assert_eq!(ModelDir::load(&empty).unwrap(), tiny());
}

#[test]
fn a_model_that_does_not_hang_together_is_neither_written_nor_read() {
    let root = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut ModelDir)| {
        let mut model = tiny();
        change(&mut model);
        model.write(&root.path().join("model"), false).unwrap_err().to_string()
    };
    assert!(refused(&|model| model.popularity.truncate(2)).contains("popularity.npy is 2, expected 3"));
    assert!(refused(&|model| model.neighbours[0] = 3).contains("neighbour is 3"));
    let too_many = refused(&|model| model.info.k_neighbours = 1 << 63);
    assert!(too_many.contains("neighbours.npy is 3, expected 18446744073709551615"), "{too_many}");
    assert!(refused(&|model| model.item_factors.data[2..4].fill(0.0)).contains("row 1 is all zeros"));
    assert!(refused(&|model| model.item_factors.data[5] = f32::NAN).contains("row 2 holds"));
    assert!(refused(&|model| model.popularity[1] = f32::NAN).contains("popularity.npy: row 1 holds"));
    assert!(refused(&|model| model.queries.data.fill(0.0)).contains("queries.npy: row 0 is all zeros"));
    assert!(refused(&|model| model.info.weighting.position_decay = 0.0).contains("weighting"));
    assert!(!root.path().join("model").exists());

    let dir = root.path().join("model");
    tiny().write(&dir, false).unwrap();
    let json = fs::read_to_string(dir.join(INFO)).unwrap();
    fs::write(dir.join(INFO), json.replace("\"format_version\": 1", "\"format_version\": 2")).unwrap();
    assert!(matches!(ModelDir::load(&dir), Err(ModelDirError::Version { found: 2, .. })));
    fs::write(dir.join(INFO), "{").unwrap();
    assert!(matches!(ModelDir::load(&dir), Err(ModelDirError::Json { .. })));
    fs::remove_file(dir.join(INFO)).unwrap();
    assert!(matches!(ModelDir::load(&dir), Err(ModelDirError::Read { .. })));
}

#[test]
fn a_model_stays_what_it_was_when_opened_and_what_is_wrong_with_its_entries_is_told_when_they_are_read() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("model");
    tiny().write(&dir, false).unwrap();
    let files = ModelFiles::open(&dir).unwrap();
    let ids = |files: &ModelFiles| {
        let mut ids = Vec::new();
        let read = files.parts().items.each(&mut |item| {
            ids.push(item.id.clone());
            Ok(())
        });
        read.map(|()| ids).map_err(|error| error.to_string())
    };
    let mut other = tiny();
    other.items.iter_mut().for_each(|item| item.id.push('x'));
    other.item_factors.data.fill(9.0);
    other.write(&dir, true).unwrap();
    let expected: Vec<String> = tiny().items.iter().map(|item| item.id.clone()).collect();
    for _ in 0..2 {
        assert_eq!(ids(&files).unwrap(), expected);
    }
    let mut first = Vec::new();
    let read = files.parts().item_factors.1.each(2, &mut |row| {
        first.extend_from_slice(row);
        Err(std::io::Error::other("enough"))
    });
    assert_eq!((read.unwrap_err().to_string().as_str(), first.as_slice()), ("enough", tiny().item_factors.row(0)));

    let lines = fs::read_to_string(dir.join(ITEMS)).unwrap();
    let last = lines.trim_end().lines().last().unwrap();
    for (changed, told) in [(format!("{lines}{last}\n"), "is 3, expected 4"), (format!("{lines}{{\n"), "line 4")] {
        fs::write(dir.join(ITEMS), changed).unwrap();
        let error = ids(&ModelFiles::open(&dir).unwrap()).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
}
