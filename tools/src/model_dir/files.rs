//! A model that stays on disk: what is large of it is read when it is needed, row by row and entry by entry, so that a build needs no memory for it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use kindred::catalog::{CatalogItem, ItemSource};
use serde::Deserialize;

use super::{
    CONTEXT_FACTORS, EncoderTable, FORMAT_VERSION, INFO, ITEM_FACTORS, ITEMS, ModelDirError, ModelInfo, ModelParts,
    NEIGHBOURS, POPULARITY, QUERIES, SIMILARITIES, SessionTable,
};
use crate::matrix::Matrix;
use crate::npy::{self, NpyFile};
use crate::whole_dir::Opened;

/// A model that was opened and checked. Its files are held: it stays the same where another takes its name.
#[derive(Debug)]
pub struct ModelFiles {
    info: ModelInfo,
    item_factors: NpyFile<f32>,
    context_factors: Option<NpyFile<f32>>,
    items: ItemsFile,
    neighbours: NpyFile<u32>,
    neighbour_similarities: NpyFile<f32>,
    popularity: Vec<f32>,
    sessions: Option<SessionTable>,
    encoder: Option<EncoderTable>,
    queries: Matrix,
}

impl ModelFiles {
    /// Opens a model and checks that its tables belong together. Catalogue entries are checked when they are read.
    ///
    /// # Errors
    /// A file that is missing, damaged, of another version or of another size than the rest, or the model was replaced meanwhile.
    pub fn open(dir: &Path) -> Result<Self, ModelDirError> {
        Opened::new(dir).read(|| Self::open_files(dir))
    }

    fn open_files(dir: &Path) -> Result<Self, ModelDirError> {
        let info = read_info(dir)?;
        let context = || NpyFile::open(&dir.join(CONTEXT_FACTORS));
        let files = Self {
            item_factors: NpyFile::open(&dir.join(ITEM_FACTORS))?,
            context_factors: if info.symmetric { None } else { Some(context()?) },
            items: ItemsFile::open(dir, info.n_items)?,
            neighbours: NpyFile::open(&dir.join(NEIGHBOURS))?,
            neighbour_similarities: NpyFile::open(&dir.join(SIMILARITIES))?,
            popularity: npy::read::<f32>(&dir.join(POPULARITY))?.data,
            sessions: SessionTable::read(dir)?,
            encoder: EncoderTable::read(dir)?,
            queries: npy::read_matrix(&dir.join(QUERIES))?,
            info,
        };
        files.parts().check(dir)?;
        Ok(files)
    }

    /// Its parts.
    pub fn parts(&self) -> ModelParts<'_> {
        ModelParts {
            info: &self.info,
            n_items: usize::try_from(self.info.n_items).unwrap_or(usize::MAX),
            item_factors: (self.item_factors.shape(), &self.item_factors),
            context_factors: self.context_factors.as_ref().map(|context| (context.shape(), context as _)),
            items: &self.items,
            neighbours: &self.neighbours,
            neighbour_similarities: &self.neighbour_similarities,
            popularity: &self.popularity,
            sessions: self.sessions.as_ref(),
            encoder: self.encoder.as_ref(),
            queries: &self.queries,
        }
    }
}

/// Catalogue entries in their file.
#[derive(Debug)]
struct ItemsFile {
    dir: PathBuf,
    file: Mutex<File>,
    /// How many there are, as the model says.
    n_items: u64,
}

impl ItemsFile {
    fn open(dir: &Path, n_items: u64) -> Result<Self, ModelDirError> {
        let path = dir.join(ITEMS);
        let file = File::open(&path).map_err(|source| ModelDirError::Read { path, source })?;
        Ok(Self { dir: dir.to_owned(), file: Mutex::new(file), n_items })
    }
}

impl ItemSource for ItemsFile {
    fn each(&self, visit: &mut dyn FnMut(&CatalogItem) -> io::Result<()>) -> io::Result<()> {
        let (mut file, mut count) = (self.file.lock().unwrap_or_else(PoisonError::into_inner), 0);
        file.rewind()?;
        each_item(&self.dir.join(ITEMS), &file, &mut |item| {
            count += 1;
            visit(&item)
        })?;
        if count == self.n_items {
            return Ok(());
        }
        let (path, table) = (self.dir.clone(), "item count of model.json");
        let (found, expected) = (self.n_items.to_string(), count.to_string());
        Err(io::Error::other(ModelDirError::Table { path, table, found, expected }))
    }
}

/// Reads catalogue entries, one a line; empty lines are passed over.
///
/// # Errors
/// The file cannot be read, or a line is not an entry.
pub fn read_items(path: &Path) -> Result<Vec<CatalogItem>, ModelDirError> {
    let file = File::open(path).map_err(|source| ModelDirError::Read { path: path.to_owned(), source })?;
    let mut items = Vec::new();
    let read = each_item(path, &file, &mut |item| {
        items.push(item);
        Ok(())
    });
    read.map_err(|source| ModelDirError::of(source, path))?;
    Ok(items)
}

fn each_item(path: &Path, file: &File, visit: &mut dyn FnMut(CatalogItem) -> io::Result<()>) -> io::Result<()> {
    for (at, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|source| io::Error::other(ModelDirError::Read { path: path.to_owned(), source }))?;
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |source| ModelDirError::Json { path: path.to_owned(), line: at + 1, source };
        let item = serde_json::from_str(line.trim_start_matches('\u{feff}')).map_err(wrong);
        visit(item.map_err(io::Error::other)?)?;
    }
    Ok(())
}

fn read_info(dir: &Path) -> Result<ModelInfo, ModelDirError> {
    /// Read first and alone, since another version may have another shape.
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let path = dir.join(INFO);
    let bytes = fs::read(&path).map_err(|source| ModelDirError::Read { path: path.clone(), source })?;
    let json = |source: serde_json::Error| ModelDirError::Json { path: path.clone(), line: source.line(), source };
    let Version { format_version } = serde_json::from_slice(&bytes).map_err(json)?;
    if format_version != FORMAT_VERSION {
        return Err(ModelDirError::Version { path, found: format_version });
    }
    serde_json::from_slice(&bytes).map_err(json)
}
