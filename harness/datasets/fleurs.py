"""FLEURS: the same sentences, read aloud in 102 languages.

Source: Conneau et al. 2022, "FLEURS: Few-shot Learning Evaluation of Universal Representations of Speech",
arXiv 2205.12446. Configurations and columns are as the card of `google/fleurs` has them; files are read as the hub
converts them (its branch `refs/convert/parquet`), because the repository itself needs a script.
"""

from __future__ import annotations

from harness.datasets._base import Corpus, Extent, check_split
from harness.datasets._hub import Source, check_language, load_from_hub, pinned
from harness.experiment.tables import Data

_REPOSITORY = "google/fleurs"
_REVISION = "470c626c0b0850da4736cacd691e3b33afec88bd"
"""Taken unless `data.revision` names another."""
_CONFIGURATIONS = (
    "af_za am_et ar_eg as_in ast_es az_az be_by bg_bg bn_in bs_ba ca_es ceb_ph ckb_iq cmn_hans_cn cs_cz cy_gb da_dk "
    "de_de el_gr en_us es_419 et_ee fa_ir ff_sn fi_fi fil_ph fr_fr ga_ie gl_es gu_in ha_ng he_il hi_in hr_hr hu_hu "
    "hy_am id_id ig_ng is_is it_it ja_jp jv_id ka_ge kam_ke kea_cv kk_kz km_kh kn_in ko_kr ky_kg lb_lu lg_ug ln_cd "
    "lo_la lt_lt luo_ke lv_lv mi_nz mk_mk ml_in mn_mn mr_in ms_my mt_mt my_mm nb_no ne_np nl_nl nso_za ny_mw oc_fr "
    "om_et or_in pa_in pl_pl ps_af pt_br ro_ro ru_ru sd_in sk_sk sl_si sn_zw so_so sr_rs sv_se sw_ke ta_in te_in "
    "tg_tj th_th tr_tr uk_ua umb_ao ur_pk uz_uz vi_vn wo_sn xh_za yo_ng yue_hant_hk zu_za"
).split()
_CALLED = {"cmn": "zh", "fil": "tl", "jv": "jw", "nb": "no"}
"""Where Whisper has another code for a language."""
_OF_LANGUAGE = {_CALLED.get(name.split("_")[0], name.split("_")[0]): name for name in _CONFIGURATIONS}


class Fleurs:
    """`data.language` says which; who reads is not known."""

    name = "fleurs"
    splits = ("test", "validation", "train")
    licence = (
        "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). FLEURS, Google, 2022, "
        "https://huggingface.co/datasets/google/fleurs. Changed: texts only, of the utterances that were transcribed."
    )

    def extent(self, data: Data) -> Extent | None:
        """Not known before the data is read."""
        return None

    def corpus(self, data: Data) -> str:
        """All languages are of one: they are the same sentences."""
        return self.name

    def load(self, data: Data, *, cached_only: bool = False) -> Corpus:
        """From the hub, with references as they are written; ids begin with the row's number, since sentences recur."""
        check_split(data, self.splits)
        language = check_language(data, _OF_LANGUAGE)
        source = Source(
            _REPOSITORY,
            _OF_LANGUAGE[language],
            data.split,
            texts=("raw_transcription", "transcription"),
            numbered=True,
            language=language,
        )
        return load_from_hub(source, pinned(data, _REVISION), cached_only=cached_only)


DATASET = Fleurs()
