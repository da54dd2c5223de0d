//! The words of the generated shop: departments, what stands on their shelves, and who makes it. All names are invented.

/// A department: what its shelves share.
#[derive(Clone, Copy, Debug)]
pub struct Department {
    /// Its name.
    pub name: &'static str,
    /// Who makes its goods.
    pub brands: [&'static str; BRANDS],
    /// Its styles.
    pub styles: [&'static str; STYLES],
    /// What tells the items of a line apart, and what that is called.
    pub variant: &'static str,
    /// The variants.
    pub variants: &'static [&'static str],
    /// Its sub-categories.
    pub shelves: [Shelf; SHELVES],
}

/// A sub-category.
#[derive(Clone, Copy, Debug)]
pub struct Shelf {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub nouns: [&'static str; NOUNS],
    /// A sentence that describes any of it.
    pub says: &'static str,
    /// Median of the prices.
    pub price: f64,
}

/// Brands of a department.
pub const BRANDS: usize = 8;
/// Shelves of a department.
pub const SHELVES: usize = 6;
/// Things on a shelf.
pub const NOUNS: usize = 4;

/// Styles of a department.
pub const STYLES: usize = 5;

/// Beginnings of the names of lines.
pub const LINE_BEGINNINGS: [&str; 30] = [
    "Al", "Bren", "Cor", "Dal", "El", "Fen", "Gal", "Hal", "Is", "Jor", "Kel", "Lun", "Mar", "Nor", "Ol", "Per",
    "Quin", "Ros", "Sol", "Tar", "Ul", "Ver", "Wil", "Yar", "Zan", "Ast", "Bir", "Cal", "Dov", "Em",
];
/// Middles of the names of lines.
pub const LINE_MIDDLES: [&str; 12] = ["", "", "a", "e", "i", "o", "an", "en", "il", "or", "um", "ast"];
/// Ends of the names of lines.
pub const LINE_ENDS: [&str; 20] = [
    "da", "den", "dor", "fell", "gar", "ia", "la", "len", "lin", "mar", "mere", "na", "ra", "ric", "sa", "ton", "ve",
    "vik", "wen", "wick",
];

const LOOKS: [&str; STYLES] = ["minimal", "classic", "rugged", "playful", "elegant"];

const COLOURS: &[&str] = &[
    "black",
    "slate grey",
    "ivory",
    "moss green",
    "navy",
    "rust red",
    "sand",
    "sky blue",
    "plum",
    "mustard",
    "teal",
    "copper",
];

/// The departments. A shelf goes with the one after it: who looks at tents needs a sleeping bag.
pub const DEPARTMENTS: [Department; 8] = [
    Department {
        name: "Outdoor",
        brands: ["Tarnfell", "Nordhav", "Quillpeak", "Bramvik", "Ostrock", "Larkstead", "Venn Ridge", "Kettlebeck"],
        styles: LOOKS,
        variant: "colour",
        variants: COLOURS,
        shelves: [
            shelf(
                "Tents",
                ["dome tent", "tunnel tent", "one-person tent", "tarp shelter"],
                189.0,
                "Pitches in minutes and stands up to a night of wind.",
            ),
            shelf(
                "Sleeping bags",
                ["down sleeping bag", "summer sleeping bag", "quilt", "sleeping mat"],
                119.0,
                "Packs small and keeps its warmth when it is damp.",
            ),
            shelf(
                "Backpacks",
                ["trekking backpack", "daypack", "roll-top pack", "hip bag"],
                79.0,
                "Carries close to the back and opens where you need it.",
            ),
            shelf(
                "Hiking boots",
                ["hiking boots", "approach shoes", "winter boots", "trail shoes"],
                129.0,
                "A firm sole for scree and a soft collar for long days.",
            ),
            shelf(
                "Camp kitchen",
                ["gas stove", "titanium pot", "folding mug", "water filter"],
                34.0,
                "Light enough to bring, sturdy enough to keep.",
            ),
            shelf(
                "Lamps and tools",
                ["head torch", "camp lantern", "pocket knife", "multi-tool"],
                39.0,
                "Works with cold fingers and in the rain.",
            ),
        ],
    },
    Department {
        name: "Kitchen",
        brands: [
            "Hearthline",
            "Pellwood",
            "Marrow & Thyme",
            "Ovenbird",
            "Saltmere",
            "Copperline",
            "Dunmore",
            "Fennel Row",
        ],
        styles: LOOKS,
        variant: "colour",
        variants: COLOURS,
        shelves: [
            shelf(
                "Pans",
                ["frying pan", "cast-iron skillet", "wok", "grill pan"],
                49.0,
                "Heats evenly and goes from the hob into the oven.",
            ),
            shelf("Pots", ["saucepan", "stock pot", "casserole", "steamer"], 59.0, "A heavy base and a lid that fits."),
            shelf(
                "Knives",
                ["chef's knife", "bread knife", "paring knife", "knife block"],
                44.0,
                "Keeps its edge and sits well in the hand.",
            ),
            shelf(
                "Coffee",
                ["espresso maker", "pour-over set", "hand grinder", "milk frother"],
                54.0,
                "For a better cup before the first meeting.",
            ),
            shelf(
                "Baking",
                ["springform tin", "mixing bowl", "rolling pin", "proofing basket"],
                22.0,
                "Releases cleanly and is easily washed.",
            ),
            shelf(
                "Tableware",
                ["dinner plate set", "soup bowl set", "tumbler set", "serving dish"],
                38.0,
                "Safe in the dishwasher and good enough for guests.",
            ),
        ],
    },
    Department {
        name: "Living",
        brands: [
            "Hollin",
            "Askew & Daughters",
            "Lindenhof",
            "Moorgate",
            "Papercrane",
            "Stillwater",
            "Tolva",
            "Umberto Vale",
        ],
        styles: LOOKS,
        variant: "colour",
        variants: COLOURS,
        shelves: [
            shelf(
                "Sofas",
                ["two-seat sofa", "corner sofa", "sofa bed", "ottoman"],
                649.0,
                "Deep seats, washable covers, delivered to the room.",
            ),
            shelf(
                "Cushions and throws",
                ["linen cushion", "wool throw", "floor cushion", "bolster"],
                32.0,
                "Woven densely so that it keeps its shape.",
            ),
            shelf(
                "Lighting",
                ["table lamp", "floor lamp", "pendant lamp", "reading lamp"],
                89.0,
                "Warm light that can be dimmed.",
            ),
            shelf(
                "Rugs",
                ["wool rug", "jute rug", "runner", "outdoor rug"],
                159.0,
                "Soft underfoot and flat at the edges.",
            ),
            shelf(
                "Shelving",
                ["bookcase", "wall shelf", "sideboard", "storage box"],
                119.0,
                "Put together without tools and without cursing.",
            ),
            shelf(
                "Bedding",
                ["duvet cover set", "fitted sheet", "down pillow", "bedspread"],
                64.0,
                "Breathes in summer and warms in winter.",
            ),
        ],
    },
    Department {
        name: "Clothing",
        brands: ["Arden Loom", "Bexley Thread", "Corrie", "Daneholm", "Elmet", "Foxglove", "Greyling", "Harrow & Pine"],
        styles: LOOKS,
        variant: "colour",
        variants: COLOURS,
        shelves: [
            shelf(
                "Jackets",
                ["rain jacket", "down jacket", "denim jacket", "blazer"],
                119.0,
                "Cut to move in, with pockets where hands go.",
            ),
            shelf(
                "Knitwear",
                ["merino jumper", "cardigan", "turtleneck", "knitted vest"],
                69.0,
                "Knitted from yarn that does not scratch.",
            ),
            shelf(
                "Shirts",
                ["oxford shirt", "linen shirt", "flannel shirt", "t-shirt"],
                39.0,
                "Holds its colour through many washes.",
            ),
            shelf(
                "Trousers",
                ["chinos", "jeans", "cord trousers", "shorts"],
                59.0,
                "A waist that stays put and a leg that falls well.",
            ),
            shelf(
                "Shoes",
                ["leather trainers", "chelsea boots", "loafers", "sandals"],
                99.0,
                "Can be resoled, and will be worth it.",
            ),
            shelf(
                "Accessories",
                ["wool scarf", "leather belt", "beanie", "tote bag"],
                27.0,
                "The small thing that finishes the rest.",
            ),
        ],
    },
    Department {
        name: "Electronics",
        brands: ["Auralis", "Bitforge", "Cindertech", "Deltane", "Echowerk", "Fluxon", "Gridley", "Halcyte"],
        styles: ["minimal", "retro", "rugged", "playful", "professional"],
        variant: "colour",
        variants: COLOURS,
        shelves: [
            shelf(
                "Headphones",
                ["over-ear headphones", "earbuds", "studio headphones", "sports earphones"],
                109.0,
                "Clear at low volume and quiet on the train.",
            ),
            shelf(
                "Speakers",
                ["bookshelf speaker", "portable speaker", "soundbar", "radio"],
                139.0,
                "Fills a room without filling it with cables.",
            ),
            shelf(
                "Cameras",
                ["compact camera", "action camera", "instant camera", "tripod"],
                299.0,
                "Ready when the moment is.",
            ),
            shelf(
                "Keyboards and mice",
                ["mechanical keyboard", "quiet keyboard", "trackball", "wireless mouse"],
                74.0,
                "Made for people who type all day.",
            ),
            shelf(
                "Chargers and cables",
                ["wall charger", "power bank", "braided cable", "charging stand"],
                29.0,
                "Fast, cool to the touch, and long enough.",
            ),
            shelf(
                "Smart home",
                ["smart bulb", "door sensor", "thermostat", "smart plug"],
                45.0,
                "Set up in a minute, and works when the network does not.",
            ),
        ],
    },
    Department {
        name: "Garden",
        brands: ["Appleyard", "Barrow & Spade", "Clayfield", "Dewpond", "Earthing", "Furrow", "Greenhithe", "Hedgerow"],
        styles: LOOKS,
        variant: "size",
        variants: &["small", "medium", "large", "extra large", "pack of two", "pack of four"],
        shelves: [
            shelf(
                "Hand tools",
                ["hand trowel", "pruning shears", "garden fork", "dibber"],
                24.0,
                "Forged in one piece, with an ash handle.",
            ),
            shelf(
                "Pots and planters",
                ["terracotta pot", "raised bed", "hanging basket", "window box"],
                29.0,
                "Frost-proof, with a hole where the water goes.",
            ),
            shelf(
                "Seeds",
                ["wildflower seeds", "tomato seeds", "salad seeds", "herb seeds"],
                5.0,
                "Open-pollinated and tested for germination.",
            ),
            shelf(
                "Watering",
                ["watering can", "garden hose", "drip kit", "rain barrel"],
                42.0,
                "Gives water to the roots and none to the path.",
            ),
            shelf(
                "Garden furniture",
                ["folding chair", "bistro table", "bench", "hammock"],
                129.0,
                "May stay out all year.",
            ),
            shelf(
                "Grills",
                ["charcoal grill", "gas grill", "fire bowl", "grill tongs"],
                149.0,
                "Hot in a quarter of an hour, clean in less.",
            ),
        ],
    },
    Department {
        name: "Toys",
        brands: [
            "Acorn Hill",
            "Bumble & Co",
            "Cloudberry",
            "Dapple",
            "Elfin Works",
            "Fiddlestick",
            "Gingerbread",
            "Hopscotch",
        ],
        styles: LOOKS,
        variant: "edition",
        variants: &["starter set", "classic edition", "big box", "travel edition", "extension", "anniversary edition"],
        shelves: [
            shelf(
                "Building",
                ["building blocks", "marble run", "magnet tiles", "construction kit"],
                34.0,
                "Fits everything else that is already on the floor.",
            ),
            shelf(
                "Board games",
                ["strategy game", "family game", "card game", "cooperative game"],
                29.0,
                "Explained in five minutes, played all evening.",
            ),
            shelf(
                "Puzzles",
                ["jigsaw puzzle", "wooden puzzle", "brain teaser", "puzzle cube"],
                18.0,
                "No two pieces are alike, and none is missing.",
            ),
            shelf(
                "Soft toys",
                ["teddy bear", "plush fox", "hand puppet", "cuddle cloth"],
                22.0,
                "Washable, huggable, and hard to part with.",
            ),
            shelf(
                "Craft",
                ["paint set", "bead kit", "clay set", "origami kit"],
                16.0,
                "Everything is in the box, down to the glue.",
            ),
            shelf(
                "Vehicles",
                ["wooden train", "toy tractor", "race track", "balance bike"],
                39.0,
                "Built for corners taken too fast.",
            ),
        ],
    },
    Department {
        name: "Pantry",
        brands: [
            "Almond Lane",
            "Bayleaf",
            "Cask & Crumb",
            "Dovecote",
            "Elderhouse",
            "Figtree",
            "Goodmill",
            "Honeycombe",
        ],
        styles: ["mild", "traditional", "robust", "adventurous", "refined"],
        variant: "size",
        variants: &["125 g", "250 g", "500 g", "1 kg", "tasting box", "refill bag"],
        shelves: [
            shelf(
                "Coffee beans",
                ["espresso beans", "filter roast", "decaf beans", "single-origin beans"],
                13.0,
                "Roasted in small batches the week it is sent.",
            ),
            shelf("Tea", ["green tea", "black tea", "herbal tea", "rooibos"], 9.0, "Whole leaves, picked by hand."),
            shelf(
                "Chocolate",
                ["dark chocolate", "milk chocolate", "pralines", "drinking chocolate"],
                7.0,
                "Few ingredients, all of them good.",
            ),
            shelf(
                "Spices",
                ["smoked paprika", "curry blend", "black pepper", "sea salt"],
                6.0,
                "Ground late, packed at once.",
            ),
            shelf(
                "Pasta and rice",
                ["spelt pasta", "risotto rice", "egg noodles", "couscous"],
                5.0,
                "Keeps its bite, even when nobody watches the pot.",
            ),
            shelf(
                "Oils and vinegar",
                ["olive oil", "walnut oil", "balsamic vinegar", "chilli oil"],
                15.0,
                "Pressed cold from one harvest.",
            ),
        ],
    },
];

const fn shelf(name: &'static str, nouns: [&'static str; NOUNS], price: f64, says: &'static str) -> Shelf {
    Shelf { name, nouns, says, price }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_name_is_used_twice() {
        let shelves = DEPARTMENTS.iter().flat_map(|department| department.shelves);
        let names: HashSet<&str> = shelves
            .clone()
            .map(|shelf| shelf.name)
            .chain(DEPARTMENTS.iter().map(|department| department.name))
            .collect();
        assert_eq!(names.len(), DEPARTMENTS.len() * (SHELVES + 1));
        let brands: HashSet<&str> = DEPARTMENTS.iter().flat_map(|department| department.brands).collect();
        assert_eq!(brands.len(), DEPARTMENTS.len() * BRANDS);
        let nouns: HashSet<&str> = shelves.flat_map(|shelf| shelf.nouns).collect();
        assert_eq!(nouns.len(), DEPARTMENTS.len() * SHELVES * NOUNS);
    }
}
