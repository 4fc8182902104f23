/**
 * The words of codes: 1,024, so that three of them hold 30 bits. They are chosen for the ear and the keyboard:
 *
 * - 4 to 6 letters, in English that many people know, with nothing offensive, no numbers and no common homophones;
 * - no two start with the same 4 letters, so that 4 are enough to type;
 * - no two differ by a single letter that is wrong, missing, added or swapped with its neighbour, not even if one of them
 *   is cut off after the fourth letter or later;
 * - no two sound alike when vowels, and voiced and voiceless consonants, are confused.
 *
 * `tests/code/words_test.ts` checks these rules. Codes that are in use refer to the words themselves, so the list may
 * change with the version of the protocol only.
 *
 * @module
 */

/** The words, in alphabetical order. */
export const WORDS: readonly string[] = `
  abacus abbey absent absorb accent accord acid acumen adagio adapt adjust adorn advent aegis
  aerial afloat afresh after agate agency agile ahead airbag alarm alcove alder alias alibi align
  almond alpaca alpine alumni amaze amber amend amity anchor angel anorak answer anthem antic
  antler anyone apex appear april apron aptly aqua arcade archer arctic arena armor arrive artist
  ashore askew aspen aspire assert assign astute atlas atrium attain attend audit august aurora
  author avenue awake award awning azure baboon badger bagel bakery ballad banana banish banner
  barber barley barrel basalt bauble beacon beagle beaver become beige belfry belong beluga bench
  bestow beware biceps billow bingo bionic birch bistro bitter blazer bleach blend blimp blink
  block blouse boast bobcat boiler bonsai boots borrow bosun botany bottle bovine boxcar boxer
  branch brass breeze brick bridge brief bright broker bronco broom browse brush bucket budget
  bulb bumper bundle bungee bunker bunny button buzzer bypass cactus caddie cadet caftan caller
  calmly camera canal candid canine canopy carbon career carol carpet cashew casino castle casual
  catnip caviar cedar celery cello cement census center chain chalk chapel charm cheese cherry
  chief chill chisel chorus chrome chunk cigar cinema circle citrus civil clasp clean clerk
  clever client cliff clinic cloak cloth cloud clutch coach cobalt cobweb coffee cohort colony
  column comedy common comply condor conic consul convoy cookie copier corner cosmic cotton
  cougar couple course covet cowboy cozy crack cradle crater crepe crest critic crocus crown
  crumb cubic cuddle curl cycle dagger dahlia dainty dampen dancer dapple darken decade defend
  define degree deluxe demure depart depth deputy derby design detail detour device devote dialog
  diary dictum diesel differ digest digit dilute dinghy dinner direct discus ditto docile doctor
  dodge dollar domain donkey donut doodle dough dowel dozen dragon drama dress drift drill driver
  dryer dubbed duet dugong duplex dynamo eager early earthy easel ebony echoes edible editor
  effect eggnog egret eject elapse elated elbow elude embark emblem emerge empire employ enable
  enamel encore endure engage engine enigma enjoy enlist enough enrich ensign entry enzyme epoch
  equip eraser escape escrow essay ethic evolve exact exceed exotic expert extend extra fabled
  fabric facade factor falcon family famous fancy farmer fathom faucet fawn feast fedora fender
  fennel fervor fiber fickle fidget fiesta figure filler finger finish fiscal fixed fjord flair
  flake flash flavor fleece flood floral fluent fluff foam focus folder fondue forage forest
  fossil foster friday frolic frugal fusion fuzzy gadfly gadget galaxy gallop galore gamut garage
  garden gargle garlic garnet garter gasket gather gazebo gecko gemini genius gentle gerbil
  geyser giant gibbon giggle glance glider glitz globe glory gloss gnome goblet golf gospel graph
  gravel greet grocer ground growl guess guild guitar guppy gusto habit hackle haiku hallow
  hammer handle harbor hardy hasty hatch hazel heater heavy hectic height helium helmet helper
  herald heron hiatus hidden hiking hippo hoist homage honest hoop hornet hotel hound house hover
  hubcap huge humble humid hummus hunch hurdle husky hustle hydra hyena hyper icebox icicle icing
  ideal igloo ignite iguana image imbue impact import inbox income indent indigo indoor inert
  inhale inland input inroad inside insure intern invite iodine iris itchy ivory jabber jackal
  jagged jaguar jalopy jargon jazz jelly jersey jester jetlag jetty jewel jiffy jigsaw jingle
  jogger joust jovial juice jumbo junior kabob karate kayak keel kelvin keypad khaki kidney
  kindle kiosk kiwi koala kudos label labor laced ladle lagoon lambda laptop larder lasso launch
  laurel lava layer layout leader league legacy legend legion lemon length lentil lichen lilac
  limit lipid liquid listen lizard lobby local loft logic lotus lounge lovely lower lumber lunar
  lupine luster luxury lyric macaw macro madcap magic magnet magpie major makeup mallet mambo
  mammal mangle mantis maraca marble margin market marsh marvel mascot master matrix mature maxim
  meadow medic medley melody member memory mentor mercy merit meteor method mildew mimic mimosa
  minnow mirage mirror misfit misty mitten mixer mocha modern modify module molar molten moment
  monday moral mosaic mount muffin mulch muppet murmur museum muslin mutual muzzle mystic napkin
  narrow nation nebula nectar nephew nerve nibble nickel niece nifty ninja noggin nomad normal
  north notch nougat novice nuance nugget nutmeg nylon oaken oasis object oblige oboist occur
  octane oddity office offset oily oldest olive omelet onion onward onyx opaque opera oppose
  optic orange orator orbit orchid orient oriole ornate orphan osprey otter ounce outfit output
  owner oxygen oyster ozone pagoda pajama palace pantry papaya parcel parka parlor parrot patent
  patrol peanut pectin pencil pepper permit person petite pewter photo picnic pigeon pirate
  piston pivot pixel pizza planet plasma pledge plenty plover point polite pompom poncho porous
  portal prime propel psyche public pulsar pupil purple python quaint qualm quarry quasar queen
  quinoa quirk quorum rabbit radial raffle raisin ramble random rating ravine recall recipe
  record reduce reflex refuge reggae reign relay remark remedy remove rental repair rescue reside
  resort resume return reveal reward rewind rhino rhythm riddle rinse ripen ripple robust rocket
  rodeo rotate rotund royal rubric rudder rugby rugged runner runway rustic saddle safari saloon
  salsa salute sandal sarong saturn saucer savvy saying scarf scenic schema school scotch screen
  script scuba sculpt search second secret sector seesaw select senate sepia sequel serene series
  serum sesame shade shaggy sheep shield shirt shovel shrimp signal silver simmer simple sister
  sitcom sizzle skein slalom smoke smooth snail snooze snug soccer social sodium sorbet source
  spell sphere spider spiral splash sponge spout spread sprig spruce squeak stable stamp stereo
  stitch storm straw stream strike stroll studio stuff sturdy stylus subtle summit sunset supper
  survey swim syntax system tactic talcum talent tanker tapir target tartan taupe tavern teeth
  tempo tenant tendon tennis theme theory thread thrift ticket timber tinder tissue titan tomato
  topaz torso toucan trader trance tremor trench triple trivia tropic tulip tundra tunnel turban
  turkey turnip turret turtle tuxedo twang tweed twirl typist unfold unhook unify unique unison
  unload unpack unveil unwind upbeat update uphill uplift uproar upside uptown urchin utmost
  utopia vacant vacuum vault velvet verbal verify vertex viable violet virtue vogue volley volume
  voyage walnut walrus washer watt wealth webcam whisk wicker wigwam window wisdom wombat wonder
  worker wreath yacht yearn yoyo zealot zebra zenith zephyr zigzag zinnia zircon zodiac
`.trim().split(/\s+/);
